"""MIIC: scanning electron micrographs with masks of the circuits."""
