"""The runtimes that `speed.py` times, each in a process of its own and with the same weights.

The entries of `RUNTIMES` prepare a runtime: they take a case and the folder of the weights, and
return a function that runs once and returns the probabilities of an inference `[B, 1, H, W]`.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable

from eal_icnet_jax.comparison import interleaved_timing
from eal_icnet_jax.system import workers
from eal_icnet_jax.system.child_process import ChildProcess


@dataclasses.dataclass(frozen=True)
class Case:
    """What is timed: `inference` or a `training` step on images `[batch, 1, size, size]`."""

    task: str
    size: int
    batch: int
    dtype: str

    def __str__(self):
        return f"{self.task} {self.size} batch {self.batch} {self.dtype}"


def numpy_inputs(case: Case):
    """Return images and, for training, labels. Their memory counts towards the peak."""
    import numpy as np

    rng = np.random.default_rng(0)
    image = rng.random((case.batch, 1, case.size, case.size), np.float32)
    label = rng.random(image.shape if case.task == "training" else 1, np.float32) < 0.4
    return image, label.astype(np.float32)


def prepare_ours(case: Case, folder: pathlib.Path) -> Callable:
    """Prepare this package."""
    from eal_icnet_jax.models import checkpoints
    from eal_icnet_jax.system import jax_settings

    jax_settings.configure(training=case.task == "training")
    image, label = numpy_inputs(case)
    image = image.transpose(0, 2, 3, 1)
    model = checkpoints.load_model(folder / "checkpoint", dtype=case.dtype)
    if case.task == "training":
        return _our_training_step(model, image, label.transpose(0, 2, 3, 1) > 0)
    from eal_icnet_jax.inference.predictor import Predictor

    predictor = Predictor(model)
    return lambda: predictor.probabilities(image).transpose(0, 3, 1, 2)


def _our_training_step(model, image, label) -> Callable:
    import jax
    import numpy as np
    import optax

    from eal_icnet_jax.training.state import initial_state
    from eal_icnet_jax.training.step import TrainStep

    optimizer = optax.adam(1e-3)
    structure, state = initial_state(model, optimizer)
    loss = {"bce_weight": 0.5, "dice_weight": 0.5, "epsilon": 1e-6}
    step = TrainStep(structure, optimizer, loss)
    valid = np.ones((*label.shape[:3], 1), bool)
    batch = jax.device_put({"image": image, "label": label, "valid": valid})

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


def prepare_torch(
    case: Case, folder: pathlib.Path, channels_last: bool = False, compiled: bool = False
) -> Callable:
    """Prepare PyTorch, eager or compiled."""
    import torch

    model, device = _torch_model(folder)
    image, label = (torch.tensor(x, device=device) for x in numpy_inputs(case))
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
        image = image.to(memory_format=torch.channels_last)
    precision = torch.autocast(device, torch.bfloat16, enabled=case.dtype == "bfloat16")
    call = torch.compile(model) if compiled else model
    if case.task == "training":
        return _torch_training_step(model, call, image, label, precision)
    model.eval()

    def infer():
        with torch.inference_mode(), precision:
            return torch.sigmoid(call(image)).float().cpu().numpy()

    return infer


def _torch_training_step(model, call, image, label, precision) -> Callable:
    import torch
    from torch.nn import functional

    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def run():
        optimizer.zero_grad(set_to_none=True)
        with precision:
            logits = call(image)
        logits = logits.float()
        p = torch.sigmoid(logits)
        dice = (2 * (p * label).sum() + 1e-6) / (p.sum() + label.sum() + 1e-6)
        loss = 0.5 * functional.binary_cross_entropy_with_logits(logits, label) + 0.5 * (1 - dice)
        loss.backward()
        optimizer.step()
        loss.item()

    return run


def _onnx_path(case: Case, folder: pathlib.Path) -> pathlib.Path:
    return folder / f"{case.batch}x{case.size}.onnx"


def export_onnx(case: Case, folder: pathlib.Path):
    """Write the network with its sigmoid as ONNX, for the case's size."""
    import torch

    model, _ = _torch_model(folder)
    model = torch.nn.Sequential(model, torch.nn.Sigmoid()).cpu().eval()
    image = torch.zeros(case.batch, 1, case.size, case.size)
    torch.onnx.export(
        model, (image,), str(_onnx_path(case, folder)),
        input_names=["image"], opset_version=17, dynamo=False,
    )  # fmt: skip


def prepare_onnxruntime(case: Case, folder: pathlib.Path) -> Callable:
    """Prepare ONNX Runtime on all cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = workers.available_cores()
    path = str(_onnx_path(case, folder))
    session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    image, _ = numpy_inputs(case)
    return lambda: session.run(None, {"image": image})[0]


def prepare_openvino(case: Case, folder: pathlib.Path) -> Callable:
    """Prepare OpenVINO, tuned for latency."""
    import openvino

    hint = {"float32": "f32", "bfloat16": "bf16"}[case.dtype]
    compiled = openvino.Core().compile_model(
        str(_onnx_path(case, folder)),
        "CPU",
        {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint},
    )
    image, _ = numpy_inputs(case)
    return lambda: compiled(image)[0]


RUNTIMES = {
    "ours": prepare_ours,
    "torch": prepare_torch,
    "torch_channels_last": functools.partial(prepare_torch, channels_last=True),
    "torch_compile": functools.partial(prepare_torch, compiled=True),
    "onnxruntime": prepare_onnxruntime,
    "openvino": prepare_openvino,
}
EXPORTED = ("onnxruntime", "openvino")
"""Runtimes that read an ONNX file."""


def can_run(runtime: str, case: Case) -> bool:
    """Return whether a runtime supports a case."""
    if runtime in EXPORTED and case.task == "training":
        return False
    return not (runtime == "onnxruntime" and case.dtype != "float32")


def keeping_first_result(run: Callable, path: pathlib.Path) -> Callable:
    """Return a function that runs `run` and writes its first result, if any, to a file."""
    import numpy as np

    def keeping():
        result = run()
        if result is not None and not path.exists():
            np.save(path, result)

    return keeping


def _prepare(runtime: str, case: Case, folder: pathlib.Path) -> Callable:
    return keeping_first_result(RUNTIMES[runtime](case, folder), folder / f"{runtime}.npy")


def start_worker(runtime: str, case: Case, folder: pathlib.Path) -> interleaved_timing.Worker:
    """Start a runtime's process, with compilation caches in the folder.

    Raises:
      WorkerError: the runtime cannot run the case, for example because it is not installed.
    """
    caches = {
        "XDG_CACHE_HOME": str(folder / "cache"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "cache" / "inductor"),
    }
    return interleaved_timing.Worker(_prepare, runtime, case, folder, environment=caches)


def randomize_statistics(weights: dict) -> dict:
    """Give fresh weights running statistics and gates that differ from their initial values."""
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


def _write_weights(folder: pathlib.Path):
    from flax import nnx

    from eal_icnet_jax import models
    from eal_icnet_jax.models import checkpoints, torch_files, torch_weights

    model = models.create_model("eal_icnet", rngs=nnx.Rngs(0))
    weights = randomize_statistics(torch_weights.to_torch(model))
    torch_files.write_state_dict(folder / "weights.safetensors", weights)
    checkpoints.save_model(folder / "checkpoint", torch_weights.from_torch(weights))


def write_weights(folder: pathlib.Path):
    """Write the same weights for every runtime: a checkpoint and a safetensors file."""
    with ChildProcess() as child:  # so that this process holds no device
        child.call(_write_weights, folder)
