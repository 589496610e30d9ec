"""Drawn layers of integrated circuits with exact masks."""
