# `make demo` and `make test` set up everything they need, in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The CPU build of torch is enough for the converter's tests; name another release here.
TORCH ?= torch==2.13.0

.PHONY: demo test test-lowest soak datasets lint format audit licences clean

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

# The whole path of the four datasets, on drawn trees in their on-disk form: tfds build, two epochs of
# the paper's config, evaluation and pictures, inspection. Installs TensorFlow, for the tfds command.
SAMPLES := omc omv miic hy5syn
datasets: $(VENV)/installed-tfds $(SAMPLES:%=samples-%)

samples-%:
	rm -rf samples/$*
	mkdir -p samples/$*
	$(BIN)/python -m eal_icnet_jax.sample_tree $* samples/$*/tree --size=128
	$(BIN)/python -m eal_icnet_jax.inspect_data $* --manual_dir=samples/$*/tree --output=samples/$*/report
	cd datasets/$* && $(abspath $(BIN))/tfds build --file_format=array_record \
		--manual_dir=$(CURDIR)/samples/$*/tree --data_dir=$(CURDIR)/samples/$*/data
	$(BIN)/python -m eal_icnet_jax.main --config=configs/$*.py --workdir=samples/$*/run \
		--config.dataset.data_dir=samples/$*/data --config.epochs=2

$(VENV)/installed-tfds: $(VENV)/installed
	$(BIN)/python -m pip install --quiet -e .[tfds]
	touch $@

# Two workers: most tests wait for one process or one thread of the compiler.
test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# The lowest releases that setup.py allows, which uv installs; a part of the tests, for time.
LOWEST := .venv-lowest
LOWEST_TESTS ?= $(addprefix tests/test_,convert.py images.py input_pipeline.py layout.py mosaics.py)
$(LOWEST)/installed: setup.py pyproject.toml
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --upgrade pip
	$(LOWEST)/bin/python -m pip install --quiet "$(TORCH)" uv
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct \
		-e .[test]
	touch $@

test-lowest: $(LOWEST)/installed
	$(LOWEST)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(LOWEST_TESTS)

# What takes two hours: fifty kills, power losses, all networks in several processes, damage
# everywhere, fuzzing by coverage. Its figures go to tests/reliability/soak.json.
soak: $(VENV)/installed-dev
	$(BIN)/python -m pip install --quiet -e .[soak]
	$(BIN)/python -m pytest -m soak

# An environment with nothing but what the package brings.
PACKAGE := .venv-package
$(PACKAGE)/installed: setup.py pyproject.toml
	rm -rf $(PACKAGE)
	$(PYTHON) -m venv $(PACKAGE)
	$(PACKAGE)/bin/python -m pip install --quiet --upgrade pip
	$(PACKAGE)/bin/python -m pip uninstall --quiet --yes setuptools
	$(PACKAGE)/bin/python -m pip install --quiet .
	touch $@

# Known vulnerabilities of that; asks PyPI, or a clone of github.com/pypa/advisory-database. The
# latter takes any environment: AUDITED=.venv-lowest/bin/python for one.
AUDITED ?= $(PACKAGE)/bin/python
audit: $(PACKAGE)/installed $(VENV)/installed-dev
ifdef ADVISORIES
	$(BIN)/python -m tests.reliability.audit $(ADVISORIES) $(AUDITED)
else
	$(BIN)/python -m pip install --quiet pip-audit
	$(AUDITED) -m pip freeze --exclude eal-icnet-jax | \
		$(BIN)/pip-audit --strict --disable-pip --no-deps -r /dev/stdin
endif

# Writes THIRD_PARTY.md.
licences: $(PACKAGE)/installed $(VENV)/installed-dev
	$(BIN)/python -m pip install --quiet pip-licenses
	PATH=$(BIN):$$PATH $(BIN)/python -m tests.reliability.licences $(PACKAGE)/bin/python

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(LOWEST) $(PACKAGE) demo samples build dist *.egg-info
