# Every target sets up what it needs; a second run finds it there.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# One process a core; a file's tests stay together, for they share set-ups.
PARALLEL := --numprocesses auto --dist loadfile

.PHONY: demo test test-slow lint format bench wheel clean

demo: $(READY)
	$(BIN)/keras-eff demo

test: $(READY)
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow $(PARALLEL)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	for script in $$(ls benchmarks/*.py | grep -v harness); do $(BIN)/python $$script || exit 1; done

wheel: $(READY)
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) dist

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "keras_eff needs Python 3.11 or newer: make PYTHON=python3.x"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[test,dev]'
	touch $(READY)
