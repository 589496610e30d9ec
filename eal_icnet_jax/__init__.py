"""EAL-ICNet in JAX: segmentation of integrated-circuit micrographs."""

import pathlib

__version__ = "0.1.0"

# A wheel carries `datasets` and `configs` inside the package; in a checkout they lie beside it.
_checkout = pathlib.Path(__file__).parent.parent
if (_checkout / "datasets" / "ic_synthetic").is_dir():
    __path__.append(str(_checkout))
