"""What every command needs from the process: errors, signals, files, workers, JAX's settings."""
