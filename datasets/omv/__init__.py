"""Optical micrographs, vias labelled."""
