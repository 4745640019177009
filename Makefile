# One command each; the first builds .venv, and whatever pyproject.toml, constraints.txt or this file changes is installed
# again.
#   make demo      train, test and report on molecules that the package makes itself
#   make test      lint, layering, types and the tests, slow ones left out
#   make test-all  the same with the slow ones
#   make lint | bench | docs | clean
# ARGS goes to the command: make demo ARGS="--out runs/first", make test ARGS="tests/layers -x".

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# One process per core with one thread each; tests about threads set their own. JOBS=0 runs them in one process.
JOBS ?= logical
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --maxprocesses 8

.PHONY: demo test test-all lint bench docs clean

demo: $(INSTALLED)
	$(BIN)/geoattn molecules demo $(ARGS)

test: lint
	$(PYTEST) $(ARGS)

test-all: lint
	$(PYTEST) -m "" $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/python benchmarks/attention.py $(ARGS)
	$(BIN)/python benchmarks/segment.py $(ARGS)
	$(BIN)/python benchmarks/bilinear.py $(ARGS)
	$(BIN)/python benchmarks/search.py $(ARGS)
	$(BIN)/python benchmarks/egnn.py $(ARGS) $(PEERS)

docs: $(INSTALLED)
	$(BIN)/mkdocs build --strict

clean:
	rm -rf build dist site .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find geoattn tests benchmarks examples -name __pycache__ -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "geoattn needs Python 3.11 or newer; say which with: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	touch $@
