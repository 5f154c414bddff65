# Two commands set everything up on a fresh machine: `make demo` and `make test`.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DOCS   := $(VENV)/.installed-docs
LINT   := $(BIN)/ruff check && $(BIN)/ruff format --check && \
	$(BIN)/pyright --pythonpath $(BIN)/python

# A copy of the Perov-5 files beside the checkout is used unless the setting names another place.
ifneq ($(wildcard ../shared/perov_5),)
export CRYSTAL_GYM_DATA ?= $(abspath ../shared/perov_5)
endif

.DEFAULT_GOAL := help
.PHONY: help install demo test lint format docs clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## make .venv and install the package with what the tests need

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# PyTorch first: a CPU build that is already there satisfies the pin, and nothing replaces it.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the pinned packages into $(VENV); this takes a few minutes."
	@$(BIN)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[agents,energy,dev]'
	@touch $@

$(DOCS): $(STAMP)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

demo: $(STAMP) ## the main job on the embedded collection, in three minutes
	$(BIN)/crystal-gym demo

# Both run even if the first fails: one call shows all that is wrong.
test: $(STAMP) ## style, types and tests; fails if any of them does
	@status=0; $(LINT) || status=1; $(BIN)/python -m pytest -m 'not slow' || status=1; exit $$status

lint: $(STAMP) ## style, format and types
	@$(LINT)

format: $(STAMP) ## mend what can be mended in style and format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(DOCS) ## the documents as a site, in site/
	$(BIN)/mkdocs build --strict

clean: ## remove .venv, caches and everything built
	rm -rf $(VENV) build dist site demo .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
