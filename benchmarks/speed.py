"""Times EAL-ICNet here against PyTorch and the runtimes that people export to.

    python benchmarks/speed.py --output=benchmarks/results
    python benchmarks/speed.py --what=training --sizes=512 --runtimes=ours,torch,torch_compile

Every runtime runs in a process of its own, which holds the same weights; the processes take turns,
and each figure is a median over the rounds. A ratio is the median of the rounds' own ratios, a
round's time of the runtime by ours, with the quartiles beside it. Peak memory is the process's, in
which nothing else ran; `compile` is what the first call takes beyond a later one, `start` the time
from the process's start to its first result, imports and reading the weights included, and `again`
the same in a second process, which finds what the first one compiled. The peers need
`pip install onnx onnxruntime openvino torch`; one that is not installed is left out, and said to
be.
"""

import argparse
import csv
import dataclasses
import json
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile

from eal_icnet_jax import parallel, turns

HERE = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing to time: `inference` or a `training` step on `[batch, 1, size, size]`."""

    what: str
    size: int
    batch: int
    dtype: str

    def __str__(self):
        return f"{self.what} {self.size} batch {self.batch} {self.dtype}"


# Each of these prepares a runtime in its process: given the case and the folder with the weights,
# it returns a function that runs once, to the end, and returns the result of an inference.


def numpy_inputs(case: Case):
    """An image, and a label where one is needed: what is made here counts towards the peak."""
    import numpy as np

    rng = np.random.default_rng(0)
    image = rng.random((case.batch, 1, case.size, case.size), np.float32)
    label = rng.random(image.shape if case.what == "training" else 1, np.float32) < 0.4
    return image, label.astype(np.float32)


def ours(case: Case, folder: pathlib.Path):
    import jax

    from eal_icnet_jax import checkpoints, runtime

    runtime.configure(training=case.what == "training")
    image, label = numpy_inputs(case)
    image = image.transpose(0, 2, 3, 1)
    model = checkpoints.load_model(folder / "checkpoint", dtype=case.dtype)
    if case.what == "inference":
        from eal_icnet_jax.predictor import Predictor

        predictor = Predictor(model)
        return lambda: predictor.probabilities(image).transpose(0, 3, 1, 2)
    import optax

    from eal_icnet_jax import train

    optimizer = optax.adam(1e-3)
    loss = {"bce_weight": 0.5, "dice_weight": 0.5, "epsilon": 1e-6}
    graphdef, state = train.initial_state(model, optimizer)
    step = train.make_train_step(graphdef, optimizer, loss)
    batch = {
        "image": jax.device_put(image),
        "label": jax.device_put(label.transpose(0, 2, 3, 1) > 0),
    }

    def run():
        nonlocal state
        state, _ = jax.block_until_ready(step(state, batch))

    return run


def _torch_model(folder: pathlib.Path):
    import torch
    from safetensors.torch import load_file
    from torch_eal_icnet import EALICNet

    model = EALICNet()
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.to(device), device


def _torch(case: Case, folder: pathlib.Path, *, channels_last=False, compiled=False):
    import torch
    from torch.nn import functional

    model, device = _torch_model(folder)
    image, label = (torch.tensor(x, device=device) for x in numpy_inputs(case))
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
        image = image.to(memory_format=torch.channels_last)
    narrow = torch.autocast(device, torch.bfloat16, enabled=case.dtype == "bfloat16")
    call = torch.compile(model) if compiled else model
    if case.what == "inference":
        model.eval()

        def infer():
            with torch.inference_mode(), narrow:
                return torch.sigmoid(call(image)).float().cpu().numpy()

        return infer
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def run():
        optimizer.zero_grad(set_to_none=True)
        with narrow:
            logits = call(image)
        logits = logits.float()
        p = torch.sigmoid(logits)
        dice = (2 * (p * label).sum() + 1e-6) / (p.sum() + label.sum() + 1e-6)
        loss = 0.5 * functional.binary_cross_entropy_with_logits(logits, label) + 0.5 * (1 - dice)
        loss.backward()
        optimizer.step()
        loss.item()

    return run


def torch_eager(case, folder):
    return _torch(case, folder)


def torch_channels_last(case, folder):
    return _torch(case, folder, channels_last=True)


def torch_compile(case, folder):
    return _torch(case, folder, compiled=True)


def _exported(case: Case, folder: pathlib.Path) -> pathlib.Path:
    """The network with its sigmoid as ONNX, at the case's size."""
    import torch

    model, _ = _torch_model(folder)
    model = torch.nn.Sequential(model, torch.nn.Sigmoid()).cpu().eval()
    path = folder / f"{case.batch}x{case.size}.onnx"
    if not path.exists():
        image = torch.zeros(case.batch, 1, case.size, case.size)
        torch.onnx.export(
            model, (image,), str(path), input_names=["image"], opset_version=17, dynamo=False
        )
    return path


def onnxruntime(case, folder):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = parallel.cores()
    session = onnxruntime.InferenceSession(
        str(folder / f"{case.batch}x{case.size}.onnx"), options, ["CPUExecutionProvider"]
    )
    image, _ = numpy_inputs(case)
    return lambda: session.run(None, {"image": image})[0]


def openvino(case, folder):
    import openvino

    hint = {"float32": "f32", "bfloat16": "bf16"}[case.dtype]
    compiled = openvino.Core().compile_model(
        str(folder / f"{case.batch}x{case.size}.onnx"),
        "CPU",
        {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint},
    )
    image, _ = numpy_inputs(case)
    return lambda: compiled(image)[0]


RUNTIMES = {
    "ours": ours,
    "torch": torch_eager,
    "torch_channels_last": torch_channels_last,
    "torch_compile": torch_compile,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
}
EXPORTED = ("onnxruntime", "openvino")


def can_run(runtime: str, case: Case) -> bool:
    if runtime in EXPORTED and case.what == "training":
        return False
    return not (runtime == "onnxruntime" and case.dtype != "float32")


def prepared(runtime: str, case: Case, folder: pathlib.Path):
    """What a runtime's process runs."""
    return keeping_result(RUNTIMES[runtime](case, folder), folder / f"{runtime}.npy")


def keeping_result(run, path: pathlib.Path):
    """`run`, which keeps the result of its first call as a file, if it has one."""
    import numpy as np

    def keeping():
        result = run()
        if result is not None and not path.exists():
            np.save(path, result)

    return keeping


def worker_of(runtime: str, case: Case, folder: pathlib.Path) -> turns.Worker:
    caches = {
        "XDG_CACHE_HOME": str(folder / "cache"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "cache" / "inductor"),
    }
    return turns.Worker(prepared, runtime, case, folder, environment=caches)


def write_weights(folder: pathlib.Path):
    """The same weights for every runtime."""
    subprocess.run([sys.executable, __file__, "--weights", str(folder)], check=True, cwd=HERE)


def lively(weights: dict) -> dict:
    """Fresh weights with statistics and gates that are not the initial ones."""
    import numpy as np

    rng = np.random.default_rng(0)
    for name, value in weights.items():
        if name.endswith("running_mean"):
            weights[name] = rng.normal(0, 0.1, value.shape).astype(np.float32)
        elif name.endswith("running_var"):
            weights[name] = rng.uniform(0.2, 2, value.shape).astype(np.float32)
        elif name.endswith("gamma"):
            weights[name] = np.full(value.shape, 0.5, np.float32)
    return weights


def make_weights(folder: pathlib.Path):
    from flax import nnx

    from eal_icnet_jax import checkpoints, convert, models

    weights = lively(convert.to_torch(models.create_model("eal_icnet", rngs=nnx.Rngs(0))))
    convert.write_state_dict(folder / "weights.safetensors", weights)
    checkpoints.save_model(folder / "checkpoint", convert.from_torch(weights))


def measure(case: Case, runtimes: list[str], rounds: int) -> list[dict]:
    """Times the runtimes that can do it on a case, in turns."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_weights(folder)
        chosen = [runtime for runtime in runtimes if can_run(runtime, case)]
        if set(chosen) & set(EXPORTED):
            arguments = ["--export", json.dumps(vars(case)), str(folder)]
            subprocess.run([sys.executable, __file__, *arguments], cwd=HERE,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        workers = {}
        for runtime in chosen:
            worker = worker_of(runtime, case, folder)
            if "error" in worker.first:
                print(f"{case}: {runtime} is left out, {worker.first['error']}", flush=True)
            else:
                workers[runtime] = worker
        turns.take_turns(workers.values(), rounds)
        reference = None
        for runtime, worker in workers.items():
            median = statistics.median(worker.seconds)
            low, middle, high = turns.ratio(workers.get("ours", worker), worker)
            row = {
                **vars(case),
                "runtime": runtime,
                "milliseconds": 1e3 * median,
                "ratio": middle,
                "ratio_low": low,
                "ratio_high": high,
                "peak_mb": worker.last["peak"] / 1e6,
                "compile_s": max(0.0, worker.first["seconds"] - median),
                "start_s": worker.first["age"],
                "difference": "",
            }
            result = folder / f"{runtime}.npy"
            if result.exists():
                import numpy as np

                array = np.load(result)
                reference = array if reference is None else reference
                row["difference"] = float(abs(array - reference).max())
            rows.append(row)
            worker.end()
        for row in rows:
            again = worker_of(row["runtime"], case, folder)
            row["again_s"] = again.first.get("age", float("nan"))
            again.end()
    return rows


def table(rows: list[dict]) -> str:
    head = (
        f"{'case':38s} {'runtime':20s} {'ms':>8s} {'x ours':>7s} {'quartiles':>12s} "
        f"{'peak MB':>8s} {'compile':>8s} {'start':>6s} {'again':>6s} {'differs':>8s}"
    )
    lines = [head]
    for row in rows:
        case = Case(*(row[key] for key in ("what", "size", "batch", "dtype")))
        differs = f"{row['difference']:8.0e}" if row["difference"] != "" else ""
        lines.append(
            f"{case!s:38s} {row['runtime']:20s} {row['milliseconds']:8.1f} {row['ratio']:7.2f} "
            f"{row['ratio_low']:6.2f}-{row['ratio_high']:<5.2f} {row['peak_mb']:8.0f} "
            f"{row['compile_s']:7.1f}s {row['start_s']:5.1f}s {row['again_s']:5.1f}s {differs}"
        )
    return "\n".join(lines)


def machine() -> str:
    """What the figures were taken on and with."""
    from importlib import metadata

    found = []
    for package in ("jax", "flax", "torch", "onnxruntime", "openvino"):
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            found.append(f"no {package}")
    flags = ""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        text = cpuinfo.read_text()
        flags = " with " + ("AVX-512" if "avx512f" in text else "AVX2" if "avx2" in text else "SSE")
    cores = f"{parallel.cores()} cores of {platform.machine()}{flags}"
    return ", ".join([cores, f"Python {platform.python_version()}", *found])


def plot(rows: list[dict], path: pathlib.Path):
    """A bar a runtime for each case, in milliseconds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    keys = ("what", "size", "batch", "dtype")
    cases = list(dict.fromkeys(tuple(row[key] for key in keys) for row in rows))
    figure, axes = plt.subplots(
        1, len(cases), figsize=(3.2 * len(cases) + 1.5, 3.6), squeeze=False, layout="constrained"
    )
    for axis, case in zip(axes[0], cases, strict=True):
        own = [row for row in rows if tuple(row[key] for key in keys) == case]
        names = [r["runtime"] for r in own]
        colours = ["#0072B2" if name == "ours" else "#999999" for name in names]
        bars = axis.barh(names, [r["milliseconds"] for r in own], color=colours)
        axis.bar_label(bars, fmt="%.0f", padding=2, fontsize=8)
        axis.invert_yaxis()
        axis.margins(x=0.18)
        axis.set_title(f"{case[0]}, {case[1]}x{case[1]}\nbatch {case[2]}, {case[3]}", fontsize=9)
        axis.set_xlabel("milliseconds", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def write_results(folder: pathlib.Path, name: str, text: str, rows: list[dict]):
    """The printed table as NAME.txt, the rows as NAME.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.txt").write_text(text)
    with (folder / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def listed(kind):
    """A parser of comma-separated options."""
    return lambda text: [kind(part) for part in text.split(",")]


def main():
    if sys.argv[1:2] == ["--weights"]:
        return make_weights(pathlib.Path(sys.argv[2]))
    if sys.argv[1:2] == ["--export"]:
        return _exported(Case(**json.loads(sys.argv[2])), pathlib.Path(sys.argv[3]))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--what", type=listed(str), default=["inference", "training"])
    add("--sizes", type=listed(int), default=[512])
    add("--batches", type=listed(int), default=[1])
    add("--dtypes", type=listed(str), default=["float32"])
    add("--runtimes", type=listed(str), default=list(RUNTIMES))
    add("--rounds", type=int, default=9)
    add("--output", type=pathlib.Path, help="folder for speed.csv, speed.txt and speed.png")
    arguments = parser.parse_args()
    rows = []
    for what in arguments.what:
        for size in arguments.sizes:
            for batch in arguments.batches:
                for dtype in arguments.dtypes:
                    case = Case(what, size, batch, dtype)
                    rows += measure(case, arguments.runtimes, arguments.rounds)
    text = f"{machine()}\npython benchmarks/speed.py {' '.join(sys.argv[1:])}\n\n{table(rows)}\n"
    print(text)
    if arguments.output:
        write_results(arguments.output, "speed", text, rows)
        plot(rows, arguments.output / "speed.png")


if __name__ == "__main__":
    main()
