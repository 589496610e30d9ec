"""Procedurally drawn IC layers with exact masks."""
