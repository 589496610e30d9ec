"""EAL-ICNet in JAX: segmentation of integrated-circuit micrographs."""

__version__ = "0.1.0"
