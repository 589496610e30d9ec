"""Stands for PyTorch where the default install has none, see `tests.cli.environment`."""

raise ModuleNotFoundError("No module named 'torch'", name="torch")
