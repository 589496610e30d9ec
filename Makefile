# `make demo` and `make test` set up everything they need, in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The CPU build of torch is enough for the converter's tests; name another release here.
TORCH ?= torch==2.13.0

.PHONY: demo test lint format clean

$(VENV)/installed: setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet -e .[dev]
	touch $@

# Draws the optical circuit dataset, trains, evaluates on the test split, writes pictures.
demo: $(VENV)/installed
	$(BIN)/python -m eal_icnet_jax.main --config=configs/demo.py --workdir=demo/run \
		--config.dataset.data_dir=demo/data

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo build dist *.egg-info
