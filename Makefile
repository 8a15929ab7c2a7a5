# Every task of the project; CI calls these and nothing else.
VENV ?= .venv
PYTHON ?= python3
EXTRAS ?= dev
# torch goes first and alone, so that pip's own configuration or TORCH_ARGS decides between the CPU and the CUDA build:
#   make setup TORCH_ARGS="--index-url <the CPU index of PyTorch>"
TORCH ?= $(shell grep -E '^torch==' constraints.txt)
TORCH_ARGS ?=
BIN := $(VENV)/bin
# One process a core, one thread each: two processes whose networks use two threads each stand in each other's way.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

.PHONY: help setup demo check test test-fast test-long bench docs notebooks wheel clean lock

help: ## say what each target does
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(VENV)/.stamp ## make .venv with everything that was tested (constraints.txt)

$(VENV)/.stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH_ARGS) $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(EXTRAS)]"
	touch $@

demo: setup ## train and evaluate on the built-in phantom cohort; ends with the path of the report
	$(BIN)/python -m mpi_unet.train experiment=quickstart

check: setup ## lint, format, types, floors, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell mpi_unet conf docs tests README.md

test: setup ## everything that must hold on every push: check, then all tests but the long ones
	$(MAKE) check
	$(PYTEST) -m "not long"

test-long: setup ## the long tests: a real Slurm, kill -9 at twenty moments, every benchmark once
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m long

test-fast: setup ## the tests that take seconds
	$(PYTEST) -m "not slow and not long"

bench: setup ## measure speed as ratios to a baseline in the same run
	cd tests && $(abspath $(BIN))/python -W ignore -m benchmarks $(BENCH)

docs: setup ## redraw the figures of the documentation
	$(BIN)/python docs/figures/phantom.py mosaic

notebooks: demo ## run the notebooks on the result of the demo
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(EXTRAS),notebooks]"
	for notebook in notebooks/*.ipynb; do $(BIN)/jupyter execute --output ../runs/{notebook_name}.ipynb $$notebook; done

wheel: setup ## build the wheel and the source distribution into dist/
	$(BIN)/python -m build --outdir dist .

clean: ## remove what the targets made, except runs/ and cohorts/
	rm -rf dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

lock: setup ## for maintainers: pin the newest versions that pyproject.toml allows
	$(BIN)/python -m pip install --quiet uv
	echo "$(TORCH)" | $(BIN)/uv pip compile --universal --python-version 3.11 --all-extras --no-header --no-annotate \
		-c - pyproject.toml -o constraints.txt
