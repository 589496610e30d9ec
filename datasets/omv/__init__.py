"""OMV: optical micrographs with masks of the vias."""
