# Two commands do everything on a fresh machine with Python 3.11 and git: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
UNREACHABLE := "The packages could not be installed; pip says why above. PIP_INDEX_URL names another package index."

.PHONY: demo test lint bench format clean

demo: $(READY)
	$(BIN)/mainstem demo --flows examples/flows

test: $(READY)
	$(BIN)/python -m tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m bench all

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): pyproject.toml
	@command -v $(firstword $(PYTHON)) >/dev/null || { echo "$(PYTHON) was not found; Python 3.11 or newer is needed" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, this is $$($(PYTHON) --version); set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python's venv module is missing; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@# Before 25.1 pip does not know --group; the version is asked for, so that pip fails here when it gets nothing newer.
	@echo "installing what is needed into $(VENV), once"
	@$(PIP) --upgrade 'pip>=25.1' || { echo $(UNREACHABLE) >&2; exit 1; }
	@$(PIP) --editable '.[postgres]' --group dev || { echo $(UNREACHABLE) >&2; exit 1; }
	@touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
