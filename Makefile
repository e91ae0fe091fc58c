# make demo and make test work from nothing: they make .venv if it is absent.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt

.PHONY: demo test test-slow bench bench-quick install clean

demo: $(VENV)/.demo
	$(BIN)/retrieval demo

test: $(VENV)/.test
	$(BIN)/python -m pytest

# Fifty kills at random instants, recall with and without fast preprocessing, whole towers, a hub from nothing: minutes.
test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -m slow

# Peers that are not installed are named and left out.
bench: $(VENV)/.demo
	$(BIN)/python -m benchmarks run
	$(BIN)/python -m benchmarks report

bench-quick: $(VENV)/.demo
	$(BIN)/python -m benchmarks run --quick --fresh

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# What is installed is remembered by empty files, renewed when the dependencies change.
$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV), a few minutes the first time ..."
	$(INSTALL) -e '.[demo]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV), a few minutes the first time ..."
	$(INSTALL) -e '.[test]'
	@touch $@ $(VENV)/.demo

install: $(VENV)/.demo

clean:
	rm -rf $(VENV) build dist *.egg-info retrieval-demo
