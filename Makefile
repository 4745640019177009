# One command each; the first builds .venv, and whatever pyproject.toml or constraints.txt changes is installed again.
#   make demo      train, test and report on molecules that the package makes itself
#   make test      lint, layering, types and the tests, slow ones left out
#   make test-all  the same with the slow ones
#   make lint | bench | docs | clean

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# One thread in each test process; tests about threads set their own. JOBS=0 runs the tests in this process.
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)

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
	@set -e; for script in benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script; done

docs: $(INSTALLED)
	$(BIN)/mkdocs build --strict

clean:
	rm -rf build dist site .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find geoattn tests benchmarks examples -name __pycache__ -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "geoattn needs Python 3.11 or newer; say which with: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[molecules,dev]'
	touch $@
