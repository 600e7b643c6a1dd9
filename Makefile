# `make demo` and `make test` set up .venv themselves; the second time they start at once. The demo needs the package
# alone, and so installs no more; tests, checks and documents add what they need to it.
# PYTHON chooses the interpreter that .venv is made from.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
READY := $(VENV)/ready
# Two files of tests at a time: much of a test is waiting for processes that start. Tests of a file stay
# together, as they share runs; files are given out in the order of tests/conftest.py.
IN_TWO := -q -n 2 --dist loadfile --no-loadscope-reorder
# One BLAS thread in every process: what uses more cores is more processes.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1

MATHS = workflow/pca workflow/projection.py workflow/overcluster workflow/centroid_graph \
        workflow/tree workflow/labels workflow/neighbors workflow/map workflow/families workflow/chunks.py \
        workflow/numerics.py workflow/graph.py workflow/estimators.py

.PHONY: demo test chromium test-slurm test-sites check lint types imports docstrings docs dist slow soak bench sizes scaling quality lowest clean

demo: $(INSTALLED)
	$(BIN)/python -m workflow demo

test: $(READY)
	$(BIN)/pytest $(IN_TWO) -m "not slow and not slurm and not sites"

# What the tests of the page need: Chromium, installed with apt where there is none, as root, on Debian.
chromium:
	sh tests/browser/get-chromium.sh

# A real Slurm on this machine, which the test installs with apt, starts and stops: as root, on Debian.
# SLURM_TESTS="slurm and not slow" takes half the time.
SLURM_TESTS ?= slurm
test-slurm: $(READY)
	$(BIN)/pytest -q -m "$(SLURM_TESTS)" --durations=0

# The same with Grid Engine and an SSH server.
test-sites: $(READY)
	$(BIN)/pytest -q -m sites --durations=0

check: lint types imports docstrings test

lint: $(READY)
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports

docstrings: $(READY)
	find $(MATHS) -name "*.py" | xargs $(BIN)/numpydoc lint

# The documents as a site, in docs/_build/html.
docs: $(READY)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

# Wheel and source distribution, checked; then the wheel alone in an empty environment, away from these files.
dist: $(READY)
	rm -rf dist
	$(BIN)/python -m build -q
	$(BIN)/python -m twine check --strict dist/*
	sh packaging/try-wheel.sh

slow: $(READY)
	$(BIN)/pytest -q -m "slow and not soak and not slurm and not sites"

# Prints the seeds that it draws.
soak: $(READY)
	$(BIN)/pytest -q -m soak -rA

# Tests with the lowest versions that pyproject.toml allows, in an environment of their own. Compiled
# at once, as pip does: a library that warns when it is compiled would fail the tests that first import it.
lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install -q uv
	.venv-lowest/bin/uv pip install -q --python .venv-lowest/bin/python --resolution lowest-direct --compile-bytecode -e '.[dev]'
	.venv-lowest/bin/pytest $(IN_TWO) -m "not slow and not slurm and not sites"

# Ten minutes; DATA is a folder with mnist.npz, for the lines that want stored images.
bench: $(READY)
	$(BIN)/python -m benchmarks.performance --scale full $(if $(DATA),--data $(DATA))

# 60 GB of disk and ten minutes.
sizes: $(READY)
	$(BIN)/python -m benchmarks.sizes

scaling: $(READY)
	$(BIN)/python -m benchmarks.scaling --scale full

quality: $(READY)
	$(BIN)/python -m benchmarks.quality --resume

$(INSTALLED): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is required; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	touch $@

$(READY): $(INSTALLED)
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .venv-lowest demo-run sizes-runs
