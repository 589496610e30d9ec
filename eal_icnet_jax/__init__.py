"""EAL-ICNet in JAX: segmentation of integrated-circuit micrographs."""

import os
import pathlib

__version__ = "0.1.0"

# OpenCV tells of files that it cannot read; what our errors say is enough.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

# A wheel carries `datasets` and `configs` inside the package; in a checkout they lie beside it.
_checkout = pathlib.Path(__file__).parent.parent
if (_checkout / "datasets" / "ic_synthetic").is_dir():
    __path__.append(str(_checkout))
