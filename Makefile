# Two commands do everything on a fresh clone: `make` runs the default study, `make test` runs the tests.
PYTHON ?= python3
VENV ?= .venv
CONFIG ?= config/config.yaml
CORES ?= all
BIN := $(VENV)/bin
STUDY := $(BIN)/python -m snapcoder.launch

.DEFAULT_GOAL := study
.PHONY: study test lint setup clean

study: $(VENV)/.installed
	@$(STUDY) --configfile $(CONFIG) --cores $(CORES)

test: $(VENV)/.installed
	@$(BIN)/python -m pytest

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules workflow/Snakefile
	$(BIN)/snakemake --lint
	$(BIN)/mypy

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml envs/requirements.lock
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (once; a few minutes on a slow line) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint envs/requirements.lock --editable '.[test,lint]'
	@touch $@

clean:
	rm -rf $(VENV) .snakemake .pytest_cache .mypy_cache .ruff_cache
