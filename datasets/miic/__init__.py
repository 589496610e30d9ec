"""Scanning electron micrographs, circuits labelled."""
