"""Images and mosaics: decoded, read part by part, and written."""
