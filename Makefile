# `make demo` and `make test` set up everything that they need, in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The tests of the converter need no more than the CPU build of torch. Name another release here.
TORCH ?= torch==2.13.0

.PHONY: demo chip test test-lowest soak datasets docs lint contract platforms format audit licences clean

# uv installs in seconds what takes pip minutes.
UV := $(VENV)/bin/uv pip install --quiet --python

# Python keeps the bytecode of what it imports, whatever the environment says: that halves the start
# of every later process. To compile all that is installed would take a minute.
unexport PYTHONDONTWRITEBYTECODE

$(VENV)/installed: setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(UV) $(BIN)/python -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(UV) $(BIN)/python "$(TORCH)"
	$(UV) $(BIN)/python -e .[dev]
	touch $@

# Draws the optical circuit dataset, trains, evaluates on the test split, writes pictures. Then
# predicts two drawn photographs of other kinds, with the new network and with the packaged ones.
demo: $(VENV)/installed
	$(BIN)/eal-icnet train --config=configs/demo.py --workdir=demo/run \
		--config.dataset.data_dir=demo/data
	$(BIN)/python benchmarks/real.py --data=docs/images/photographs \
		--models=trained=demo/run,packaged --output=demo/photographs

# The whole way from tiles of three layers to nets, as docs/chip.md shows it.
chip: $(VENV)/installed-labels
	$(BIN)/python benchmarks/chip.py --work=chip

$(VENV)/installed-labels: $(VENV)/installed
	$(UV) $(BIN)/python -e .[labels]
	touch $@

# Every step with the four datasets, on small drawn folders in their on-disk form: `tfds build`, two
# epochs of the paper's config, evaluation, inspection. Installs TensorFlow for the `tfds` command.
SAMPLES := omc omv miic hy5syn
datasets: $(VENV)/installed-tfds $(SAMPLES:%=samples-%)

samples-%:
	rm -rf samples/$*
	mkdir -p samples/$*
	$(BIN)/eal-icnet draw dataset $* samples/$*/tree --size=128
	$(BIN)/eal-icnet inspect $* --manual-dir=samples/$*/tree -o samples/$*/report
	cd datasets/$* && $(abspath $(BIN))/tfds build --file_format=array_record \
		--manual_dir=$(CURDIR)/samples/$*/tree --data_dir=$(CURDIR)/samples/$*/data
	$(BIN)/eal-icnet train --config=configs/$*.py --workdir=samples/$*/run \
		--config.dataset.data_dir=samples/$*/data --config.epochs=2

$(VENV)/installed-tfds: $(VENV)/installed
	$(UV) $(BIN)/python -e .[tfds]
	touch $@

# A worker more than a small machine has cores, because many tests wait for other processes.
PYTEST := -m pytest -n 3 --dist loadfile --no-loadscope-reorder
test: $(VENV)/installed-dev
	$(BIN)/python $(PYTEST)

# A part of the tests with the lowest releases that pyproject.toml allows.
LOWEST := .venv-lowest
LOWEST_TESTS ?= tests/models/test_torch_weights.py tests/imaging tests/vector tests/data
$(LOWEST)/installed: setup.py pyproject.toml $(VENV)/installed-dev
	$(PYTHON) -m venv $(LOWEST)
	$(UV) $(LOWEST)/bin/python "$(TORCH)"
	$(UV) $(LOWEST)/bin/python --resolution lowest-direct -e .[test]
	touch $@

test-lowest: $(LOWEST)/installed
	$(LOWEST)/bin/python $(PYTEST) $(LOWEST_TESTS)

# Takes two hours: fifty kills, power losses, all networks in several processes, damage at many
# places, fuzzing guided by coverage. The figures go to tests/reliability/soak.json.
soak: $(VENV)/installed-dev
	$(UV) $(BIN)/python -e .[soak]
	$(BIN)/python -m pytest -m soak

# The documentation site, in site/.
docs: $(VENV)/installed-dev
	$(BIN)/mkdocs build --strict --quiet

# Resolves the default install for each platform from wheels, without installing anything. Only
# promise, which tensorflow-datasets requires and which is pure Python, has no wheel.
PLATFORMS := x86_64-unknown-linux-gnu aarch64-apple-darwin x86_64-pc-windows-msvc
platforms: $(VENV)/installed-dev
	mkdir -p build
	@for platform in $(PLATFORMS); do \
		$(BIN)/uv pip compile --quiet --no-header --no-annotate --only-binary :all: --no-binary promise \
			--python-version 3.12 --python-platform $$platform pyproject.toml \
			-o build/$$platform.txt && \
		echo "$$platform: $$(grep -c == build/$$platform.txt) packages resolve" || exit 1; \
	done

# An environment with only the package and its requirements.
PACKAGE := .venv-package
$(PACKAGE)/installed: setup.py pyproject.toml
	rm -rf $(PACKAGE)
	$(PYTHON) -m venv $(PACKAGE)
	$(PACKAGE)/bin/python -m pip install --quiet --upgrade pip
	$(PACKAGE)/bin/python -m pip uninstall --quiet --yes setuptools
	$(PACKAGE)/bin/python -m pip install --quiet .
	touch $@

# Known vulnerabilities of that environment, from PyPI, or from a clone of
# github.com/pypa/advisory-database, which can check any environment:
# make audit ADVISORIES=DIR AUDITED=.venv-lowest/bin/python
AUDITED ?= $(PACKAGE)/bin/python
audit: $(PACKAGE)/installed $(VENV)/installed-dev
ifdef ADVISORIES
	$(BIN)/python -m tests.reliability.audit $(ADVISORIES) $(AUDITED)
else
	$(UV) $(BIN)/python pip-audit
	$(AUDITED) -m pip freeze --exclude eal-icnet-jax | \
		$(BIN)/pip-audit --strict --disable-pip --no-deps -r /dev/stdin
endif

# Writes THIRD_PARTY.md.
licences: $(PACKAGE)/installed $(VENV)/installed-dev
	$(UV) $(BIN)/python pip-licenses
	PATH=$(BIN):$$PATH $(BIN)/python -m tests.reliability.licences $(PACKAGE)/bin/python

# Format, style, types of the public modules, and the contract between folders.
TYPED := eal_icnet_jax/__init__.py eal_icnet_jax/models/checkpoints.py \
	eal_icnet_jax/models/creation.py eal_icnet_jax/models/losses.py \
	eal_icnet_jax/models/registry.py eal_icnet_jax/models/torch_weights.py \
	eal_icnet_jax/inference/predictor.py eal_icnet_jax/evaluation/metrics.py \
	eal_icnet_jax/evaluation/electrical.py eal_icnet_jax/imaging/mosaic_files.py \
	eal_icnet_jax/system/errors.py eal_icnet_jax/vector/layout_files.py \
	eal_icnet_jax/vector/layout_options.py
lint: $(VENV)/installed-dev contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(TYPED)

# The wheel's layout, in which datasets/ and configs/ are folders of the package; import-linter
# needs an `__init__.py` in each.
CONTRACT := build/contract
contract: $(VENV)/installed-dev
	rm -rf $(CONTRACT) && mkdir -p $(CONTRACT)
	cp -RL eal_icnet_jax $(CONTRACT)
	touch $(CONTRACT)/eal_icnet_jax/datasets/__init__.py $(CONTRACT)/eal_icnet_jax/configs/__init__.py
	cd $(CONTRACT) && PYTHONPATH=. $(abspath $(BIN))/lint-imports --no-cache $(CURDIR)/pyproject.toml

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(LOWEST) $(PACKAGE) chip demo samples site build dist *.egg-info
