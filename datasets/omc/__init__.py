"""Optical micrographs, circuits labelled."""
