"""Packages of bioimage.io: a network as ONNX, with a description that other programs read.

The description follows model RDF 0.5 of https://bioimage.io/docs. It says in the words of that
format how an image is brought to the range that the network takes, and holds an example.
"""

import datetime
import hashlib
import io
import json
import pathlib
import zipfile

import numpy as np

from eal_icnet_jax.models.registry import MODELS, ModelSpec

FORMAT_VERSION = "0.5.3"
"""Of the description."""

WEIGHTS = "weights.onnx"
"""Name of the network in a package."""

SMALLEST_RANGE = 1e-6
"""What the format adds to the range of an image's levels before it divides by it."""

CHANNELS = {1: ["grey"], 3: ["red", "green", "blue"]}
"""Names of the channels of an image, by their number."""


def unit_range(levels: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """Bring levels to 0 to 1, as the steps in the description do.

    Args:
      levels: `[1, H, W, C]` of 8 or 16 bits.
      spec: of the network.

    Returns:
      `[1, H, W, C]` float32.
    """
    if spec.preprocessing.stretch is None:
        return levels.astype(np.float32) / np.iinfo(levels.dtype).max
    low, high = np.percentile(levels, spec.preprocessing.stretch, (1, 2), keepdims=True)
    return np.clip((levels - low) / (high - low + SMALLEST_RANGE), 0, 1).astype(np.float32)


def _steps(spec: ModelSpec, dtype: np.dtype) -> list[dict]:
    """Return the steps of `unit_range`."""
    last = {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}
    if spec.preprocessing.stretch is None:
        gain = 1 / np.iinfo(dtype).max
        return [{"id": "scale_linear", "kwargs": {"gain": gain, "offset": 0.0}}, last]
    low, high = spec.preprocessing.stretch
    scale = {"axes": ["y", "x"], "min_percentile": low, "max_percentile": high}
    return [
        {"id": "scale_range", "kwargs": {**scale, "eps": SMALLEST_RANGE}},
        {"id": "clip", "kwargs": {"min": 0.0, "max": 1.0}},
        last,
    ]


def _tensor(name: str, sizes: list, channel_names: list[str], **more) -> dict:
    """Describe an input or output, whose example lies beside the description."""
    axes = [
        {"type": "batch"},
        {"type": "space", "id": "y", "size": sizes[0]},
        {"type": "space", "id": "x", "size": sizes[1]},
        {"type": "channel", "channel_names": channel_names},
    ]
    return {"id": name, "axes": axes, "test_tensor": {"source": f"{name}.npy"}, **more}


def _description(spec: ModelSpec, sizes: list, arrays: dict[str, np.ndarray]) -> dict:
    """Describe a network and its tensors; the first array is the input."""
    (image, levels), *outputs = arrays.items()
    channels = levels.shape[-1]
    names = CHANNELS.get(channels, [f"channel{k}" for k in range(channels)])
    same = [{"tensor_id": image, "axis_id": axis, "offset": 0} for axis in "yx"]
    steps = _steps(spec, levels.dtype)
    info = MODELS[spec.name]
    return {
        "type": "model",
        "format_version": FORMAT_VERSION,
        "name": f"{info.title} for integrated circuits",
        "description": f"{info.title} for photographs of integrated circuits: "
        f"probabilities of {', '.join(spec.output_names)} of each pixel.",
        "timestamp": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "tags": ["segmentation", "integrated-circuits"],
        "cite": [{"text": info.title, "url": info.paper}],
        "inputs": [
            _tensor(image, sizes, names, data={"type": levels.dtype.name}, preprocessing=steps)
        ],
        "outputs": [
            _tensor(name, same, list(spec.output_names), data={"type": "float32"})
            for name, _ in outputs
        ],
    }


def write(
    path: pathlib.Path,
    spec: ModelSpec,
    network,
    facts: dict[str, str],
    size: tuple[int, int] | None,
    multiple: int,
    arrays: dict[str, np.ndarray],
) -> None:
    """Write a package.

    Args:
      path: of the `.zip` file.
      spec: of the network.
      network: `onnx.ModelProto` of float32 images of 0 to 1.
      facts: what else a user must know, which becomes `config.eal_icnet`.
      size: height and width of the images, or None for any multiples of `multiple`.
      multiple: of height and width.
      arrays: the example: levels by the name of the input, and then results by those of the
        outputs, `[1, H, W, C]` each.
    """
    sizes = [{"min": multiple, "step": multiple}] * 2 if size is None else list(size)
    weights = network.SerializeToString()
    description = _description(spec, sizes, arrays)
    entry = {
        "source": WEIGHTS,
        "sha256": hashlib.sha256(weights).hexdigest(),
        "opset_version": network.opset_import[0].version,
    }
    description["weights"] = {"onnx": entry}
    description["documentation"] = "README.md"
    description["config"] = {"eal_icnet": facts}
    files = {
        "rdf.yaml": json.dumps(description, indent=1).encode(),  # JSON is YAML too
        "README.md": f"{description['description']}\n\nWritten by eal-icnet export.\n".encode(),
        WEIGHTS: weights,
    }
    for name, array in arrays.items():
        stream = io.BytesIO()
        np.save(stream, array, allow_pickle=False)
        files[f"{name}.npy"] = stream.getvalue()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in files.items():
            package.writestr(name, content)
