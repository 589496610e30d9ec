"""Names of OME-TIFF files. Imports nothing heavy, so that commands check them first."""

import pathlib

SUFFIXES = (".ome.tif", ".ome.tiff")
"""Endings in lower case, the usual one first."""


def is_ome_tiff(path: pathlib.Path) -> bool:
    """Return whether a name ends as that of an OME-TIFF file does."""
    return path.name.lower().endswith(SUFFIXES)


def stem_of(path: pathlib.Path) -> str:
    """Return the name of an OME-TIFF file without its ending."""
    suffix = next(suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix))
    return path.name[: -len(suffix)]
