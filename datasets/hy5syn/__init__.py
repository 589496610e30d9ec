"""HY5SYN: scanning electron micrographs with metal tracks and vias as SVG."""
