"""OMC: optical micrographs with masks of the circuits."""
