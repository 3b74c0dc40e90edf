# Every target sets itself up: a fresh clone needs Python 3.11 or newer and nothing else.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: install demo test check bench notebooks format

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: $(INSTALLED)
	$(BIN)/babelscope demo --out demo

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist worksteal

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	PYTHONPATH=. $(BIN)/lint-imports

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks

# Runs them on a small series made for it, and writes nothing into them.
notebooks: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/end_to_end/test_notebooks.py

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
