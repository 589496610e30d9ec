"""The packaged networks as programs on disk, so that a start neither builds nor traces a network.

Building EAL-ICNet and tracing it takes longer than all that a small prediction computes. So the
first start exports the forward pass for each shape as StableHLO, and keeps it beside the compiled
programs of `jax_settings.enable_compilation_cache`, together with the weights as they are after
folding. Later starts read both. JAX compiles what is read, or takes it from its cache, by the same
rules as if it were traced anew.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import pathlib
from typing import TYPE_CHECKING

import jax
import numpy as np
import safetensors.numpy
from jax import export

from eal_icnet_jax.models import pretrained
from eal_icnet_jax.models.registry import ModelSpec
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.files import write_atomically

if TYPE_CHECKING:
    from flax import nnx

    from eal_icnet_jax.inference.forward_pass import ForwardPass
    from eal_icnet_jax.models.network import Network

PACKAGE = pathlib.Path(__file__).parents[1]

SOURCES = "layers/*.py", "models/*.py", "inference/forward_pass.py", "inference/stored_programs.py"
"""What decides how a network is built, traced and stored."""


def packaged_network(name: str) -> "Network | StoredForwardPass":
    """Return packaged weights for `Predictor`.

    Args:
      name: a name of `pretrained.PRETRAINED`.

    Returns:
      Its stored forward pass. Where nothing is kept on disk, several devices share the work, or it
      is not done on the CPU, the network itself.

    Raises:
      UserError: as `pretrained.load_pretrained`.
    """
    folder = _folder(name)
    return pretrained.load_pretrained(name) if folder is None else StoredForwardPass(name, folder)


def _folder(name: str) -> pathlib.Path | None:
    """Return where the forward pass of packaged weights is kept, as they and the code are now."""
    cache = jax.config.jax_compilation_cache_dir
    is_kept = cache and jax.config.jax_enable_compilation_cache and os.access(cache, os.W_OK)
    sources = sorted(path for pattern in SOURCES for path in PACKAGE.glob(pattern))
    is_one_cpu = jax.default_backend() == "cpu" and jax.local_device_count() == 1
    if not is_kept or not sources or not is_one_cpu:
        return None
    versions = [importlib.metadata.version(package) for package in ("jax", "jaxlib", "flax")]
    settings = jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision
    pretrained.checked_weights_file(name)
    weights = pretrained.PRETRAINED[name].sha256
    content = hashlib.sha256(repr((versions, settings, weights)).encode())
    for path in sources:
        content.update(path.name.encode() + b"\n" + path.read_bytes())
    folder = pathlib.Path(cache) / "networks" / f"{name}_{content.hexdigest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder


def _read(path: pathlib.Path) -> bytes | None:
    """Return what `_write` wrote, or None if it is missing or damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, data = content[:32], content[32:]
    return data if hashlib.sha256(data).digest() == digest else None


def _write(path: pathlib.Path, data: bytes):
    """Write a file that begins with its digest. If it cannot be written, the next start is slow."""
    with contextlib.suppress(UserError):
        write_atomically(path, hashlib.sha256(data).digest() + data)


class StoredForwardPass:
    """The forward pass of packaged weights, on one device.

    The network is built only for a shape that no earlier start has predicted.

    Args:
      name: a name of `pretrained.PRETRAINED`.
      folder: where programs and weights are kept.

    Attributes:
      spec: name, options and preprocessing of the network.
      smallest, alignment, supports_canvas: of the network.
      weights_digest: SHA-256 of the weights, see `named_arrays.arrays_digest`.
    """

    def __init__(self, name: str, folder: pathlib.Path):
        self._name, self._folder = name, folder
        self._forward_pass: ForwardPass | None = None
        self._programs: dict[str, jax.stages.Wrapped] = {}
        description, weights = _read(folder / "network"), _read(folder / "weights")
        if description is None or weights is None:
            description, weights = self._described()
            _write(folder / "network", description)
            _write(folder / "weights", weights)
        values = json.loads(description)
        options = tuple(sorted(values["options"].items()))
        preprocessing = pretrained.PRETRAINED[name].preprocessing
        self.spec = ModelSpec(values["name"], options, preprocessing, pretrained.KINDS)
        self.smallest, self.alignment = values["smallest"], values["alignment"]
        self.supports_canvas = values["supports_canvas"]
        self.weights_digest = values["weights_digest"]
        arrays = safetensors.numpy.load(weights)
        leaves = [arrays[str(k)] for k in range(len(arrays))]
        self._leaves = jax.device_put(leaves, jax.local_devices()[0])

    def _described(self) -> tuple[bytes, bytes]:
        """Return what is kept of the network: what must be known of it, and its folded weights."""
        from eal_icnet_jax.models import named_arrays

        model = pretrained.load_pretrained(self._name)
        forward_pass = self._built(model)
        values = {
            "name": model.spec.name,
            "options": dict(model.spec.options),
            "smallest": model.smallest,
            "alignment": model.alignment,
            "supports_canvas": model.supports_canvas,
            "weights_digest": named_arrays.weights_digest(model),
        }
        leaves = jax.tree.leaves(forward_pass.state)
        arrays = {str(k): np.asarray(leaf) for k, leaf in enumerate(leaves)}
        return json.dumps(values).encode(), safetensors.numpy.save(arrays)

    def _built(self, model: "Network | None" = None) -> "ForwardPass":
        """Return the forward pass of the network, which is built once."""
        if self._forward_pass is None:
            from eal_icnet_jax.inference.forward_pass import ForwardPass  # imports Flax

            self._forward_pass = ForwardPass(model or pretrained.load_pretrained(self._name))
        return self._forward_pass

    def _exported(self, path: pathlib.Path, kind: str, *arrays: np.ndarray) -> export.Exported:
        """Return the program for arrays of these shapes, from disk or exported now."""
        data = _read(path)
        if data is not None:
            return export.deserialize(bytearray(data))
        forward_pass = self._built()
        function = getattr(forward_pass, kind)
        form = jax.tree.structure(forward_pass.state)

        def with_leaves(leaves, *arrays):
            return function(jax.tree.unflatten(form, leaves), *arrays)

        exported = export.export(jax.jit(with_leaves))(self._leaves, *arrays)
        _write(path, exported.serialize())
        return exported

    def load(self, state: "nnx.State"):
        """Replace the weights and statistics by a state of the network."""
        forward_pass = self._built()
        forward_pass.load(state)
        self._leaves = jax.tree.leaves(forward_pass.state)

    def _run(self, kind: str, images: np.ndarray, *others: np.ndarray) -> jax.Array:
        name = "_".join((kind, "x".join(map(str, images.shape))))
        if name not in self._programs:
            exported = self._exported(self._folder / name, kind, images, *others)
            self._programs[name] = jax.jit(exported.call)
        return self._programs[name](self._leaves, images, *others)

    def probabilities(self, images: np.ndarray) -> jax.Array:
        """Compute what `ForwardPass.probabilities` does."""
        return self._run("probabilities_of", images)

    def canvas_probabilities(self, canvases: np.ndarray, image_size: np.ndarray) -> jax.Array:
        """Compute what `ForwardPass.canvas_probabilities` does."""
        return self._run("canvas_probabilities_of", canvases, image_size)

    def with_losses(
        self, images: np.ndarray, labels: np.ndarray, valid: np.ndarray
    ) -> tuple[jax.Array, jax.Array]:
        """Compute what `ForwardPass.with_losses` does, by the network itself."""
        return self._built().with_losses(images, labels, valid)
