"""Nets of a stack of layers: KLayout extracts them from masks or layouts."""
