"""Scanning electron micrographs, metal tracks and vias labelled as SVG."""
