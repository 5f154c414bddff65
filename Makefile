# `make demo` and `make test` install everything they need on a fresh machine.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DOCS   := $(VENV)/.installed-docs
LINT   := $(BIN)/ruff check && $(BIN)/ruff format --check && $(BIN)/lint-imports && \
	git ls-files -z | xargs -0 $(BIN)/codespell -D - -D tools/codespell.txt && \
	$(BIN)/pyright --pythonpath $(BIN)/python

# Copies of the original data files beside the checkout are used unless the variable is set.
ifneq ($(wildcard ../shared),)
export CRYSTAL_GYM_DATA ?= $(abspath ../shared)
endif

.DEFAULT_GOAL := help
.PHONY: help install demo test slow bench lint format docs clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## create .venv and install the package with its test dependencies

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# PyTorch first: an installed CPU build satisfies the pin and is not replaced.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the pinned packages into $(VENV); this takes a few minutes."
	@$(BIN)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[agents,energy,discovery,cluster,dev]'
	@touch $@

$(DOCS): $(STAMP)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

demo: $(STAMP) ## run the whole path on the embedded collection (three minutes)
	$(BIN)/crystal-gym demo

# Tests run even if a check fails, so that one call shows all problems.
test: $(STAMP) ## check style, imports, spelling and types, and run the tests
	@status=0; $(LINT) || status=1; $(BIN)/python -m pytest -m 'not slow' -n 2 --dist worksteal || status=1; exit $$status

slow: $(STAMP) ## run the tests that take long
	@$(BIN)/python -m pytest -m slow

bench: $(STAMP) ## measure all speed ratios, compared with the committed ones
	@$(BIN)/python benchmarks/ratios.py bench

lint: $(STAMP) ## check style, format, imports, spelling and types
	@$(LINT)

format: $(STAMP) ## fix style and format where possible
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(DOCS) ## build the documentation in site/
	$(BIN)/mkdocs build --strict

clean: ## remove .venv, caches and build outputs
	rm -rf $(VENV) build dist site demo bench .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
