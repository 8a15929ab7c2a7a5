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

.PHONY: help setup demo check test test-fast test-long audit bench docs figures notebooks wheel clean lock

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

audit: setup ## ask public advisories about every version in constraints.txt; needs the network
	$(BIN)/python -c "import pip_audit" 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt pip-audit
	$(BIN)/python -m pip_audit --strict --no-deps --disable-pip -r constraints.txt

bench: setup ## measure speed as ratios to a baseline in the same run
	cd tests && $(abspath $(BIN))/python -W ignore -m benchmarks $(BENCH)

docs: setup ## build these pages into docs/_build/html, without network; a warning is an error
	$(BIN)/python -c "import furo, myst_parser" 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(EXTRAS),docs]"
	$(BIN)/python -m sphinx -q -W --keep-going -b html -d docs/_build/doctrees docs docs/_build/html
	@echo docs/_build/html/index.html

figures: demo ## redraw figures of the documentation; the last one trains networks, about 6 minutes
	$(BIN)/python docs/figures/phantom.py mosaic
	$(BIN)/python docs/figures/result.py runs/quickstart
	$(BIN)/python docs/figures/quality.py runs/quality_figure

notebooks: demo ## run the notebooks on the result of the demo; a page of each in runs/notebooks
	$(BIN)/python -c "import nbconvert, ipykernel, ipywidgets" 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(EXTRAS),notebooks]"
	$(BIN)/python -m nbconvert --execute --to html --output-dir runs/notebooks --HTMLExporter.mathjax_url= \
		--HTMLExporter.require_js_url= --ExecutePreprocessor.store_widget_state=False notebooks/*.ipynb

wheel: setup ## build the wheel and the source distribution into dist/
	$(BIN)/python -m build --outdir dist .

clean: ## remove what the targets made, except runs/ and cohorts/
	rm -rf dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

lock: setup ## for maintainers: pin the newest versions that pyproject.toml allows
	$(BIN)/python -m pip install --quiet uv
	echo "$(TORCH)" | $(BIN)/uv pip compile --universal --python-version 3.11 --all-extras --no-header --no-annotate \
		-c - pyproject.toml -o constraints.txt
