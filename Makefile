# Needs Python 3.10, 3.11 or 3.12 and make; everything else is installed into .venv on the first run.
#   make demo    export the reference model for Jetson Orin and ask it about a picture
#   make test    run the tests
#   make lint    ruff, mypy and the import rules
#   make clean   remove everything that these made
# Another interpreter: make test PYTHON=python3.12

.DELETE_ON_ERROR:
.PHONY: demo test lint install clean
.SUFFIXES:

VENV := .venv
BIN := $(VENV)/bin
IS_SUPPORTED := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for name in python3 python3.11 python3.12 python3.10; do \
	if $$name -c '$(IS_SUPPORTED)' 2>/dev/null; then echo $$name; break; fi; done)

demo: $(VENV)/.ready-test
	PATH="$(CURDIR)/$(BIN):$$PATH" examples/demo.sh

test: $(VENV)/.ready-test
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadscope

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: $(VENV)/.ready-test

# A stamp per set of extras: remade when what is to be installed changed.
$(VENV)/.ready-%: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[export,$*]'
	@touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { \
		echo "error: phiedge needs Python 3.10, 3.11 or 3.12, and found $$(python3 --version 2>&1 || echo none)" >&2; \
		echo "remedy: install Python 3.11, or name one: make $(or $(MAKECMDGOALS),test) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c '$(IS_SUPPORTED)' || { \
		echo "error: $(PYTHON) is not Python 3.10, 3.11 or 3.12" >&2; \
		echo "remedy: make $(or $(MAKECMDGOALS),test) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "error: $(PYTHON) could not make a virtual environment" >&2; \
		echo "remedy: install its venv module (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }

clean:
	rm -rf $(VENV) build dist demo *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
