# Every target installs what it needs from requirements.lock into .venv; afterwards nothing needs a network.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
FLIGHTS := examples/flights/problem.toml

.PHONY: help setup demo ui docs test test-unit test-all check format lint types contracts lock screenshots clean
.DEFAULT_GOAL := help

help:  ## Show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*## /\t/' | expand -t 14

setup: $(VENV)/.installed  ## Install everything into .venv

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check --quiet
	@touch $@

demo: setup  ## Two weekly cycles on 336,776 real flights: retrain, decide, publish, score
	$(BIN)/python examples/flights/warehouse.py
	$(BIN)/automl cycle $(FLIGHTS) --as-of 2013-11-04 --budget 60s
	$(BIN)/automl cycle $(FLIGHTS) --as-of 2013-11-11 --budget 60s
	$(BIN)/automl status $(FLIGHTS)
	@echo "see why in MLflow: make ui"

ui: setup  ## MLflow's pages on the demo's workspace, at 127.0.0.1:5000
	$(BIN)/automl ui $(FLIGHTS)

test-unit: setup  ## Tests of single modules
	$(BIN)/python -m pytest tests/unit -m "not slow" -n auto --dist loadfile --no-loadscope-reorder

test: setup  ## All tests but the long proofs
	$(BIN)/python -m pytest -m "not slow" -n auto --dist loadfile --no-loadscope-reorder

test-all: setup  ## All tests
	$(BIN)/python -m pytest

docs: setup  ## The documentation as a site, in site/; open site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

check: format lint types contracts docs test  ## What CI runs: format, lint, types, contracts, docs, tests

format: setup
	$(BIN)/ruff format --check .

lint: setup
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

contracts: setup
	$(BIN)/lint-imports

lock:  ## Renew requirements.lock from pyproject.toml; needs uv and a network
	uv pip compile pyproject.toml --extra postgres --extra duckdb --extra examples --extra catboost --extra xgboost --group dev --group docs --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-annotate --no-header --output-file requirements.lock

screenshots: setup  ## Take the pictures of README and docs again; needs Chromium
	$(BIN)/python docs/photograph.py

clean:  ## Remove the demo's workspace and warehouse
	rm -rf site examples/flights/.automl examples/flights/predictions examples/flights/warehouse.db
