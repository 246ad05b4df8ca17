# Everything is installed into .venv. `make run` and `make test` set up what they need; compiled programs are kept in the
# user's cache folder (`scalesearch doctor` names it).

SHELL := /bin/bash
.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: help setup run test test-long test-interop check docs bench bench-gpu notebooks clean

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
CONSTRAINTS := constraints.txt
# What a set-up depends on; when none of it changed, set-up is skipped.
INPUTS := pyproject.toml $(CONSTRAINTS)
# PyTorch and its libraries are large and have an environment of their own.
INTEROP := .venv-interop
INTEROP_CONSTRAINTS := constraints-interop.txt

# The first Python here that is new enough; `make PYTHON=/path/to/python …` takes that one.
PYTHON ?=
PYTHONS := $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.14 python)
BUDGET ?= 2
# More options of `scalesearch run`: make run ARGS="--study studies/fashion_mnist.toml"
ARGS ?=
# More options of pytest: make test PYTEST="tests/scaling -x"
PYTEST ?=
# Processes that run tests; the tests of a file stay together, with what they share.
WORKERS ?= 2

help:
	@echo "make run        set up and search: scalesearch run --budget $(BUDGET) (ARGS=... for more options)"
	@echo "make test       set up and run the tests, two files at a time (PYTEST=... for more options)"
	@echo "make test-long  set up and run the tests that take long: minutes each"
	@echo "make test-interop  set up timm, torchvision and transformers apart, and run the tests against them"
	@echo "make check      ruff, mypy and the layers of the package"
	@echo "make docs       the site, into docs/_build/html"
	@echo "make bench      the quick form of every benchmark"
	@echo "make bench-gpu  what a GPU says, in ten minutes; without one, the same at a small size"
	@echo "make notebooks  execute the notebooks in place, on runs/mnist_sample; a picture of each figure is kept"
	@echo "make setup      only set up"
	@echo "make clean      remove what make has made; runs/ is kept"

setup: $(VENV)/.installed

run: $(VENV)/.installed
	$(BIN)/scalesearch run --budget $(BUDGET) $(ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(PYTEST)

test-long: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --numprocesses $(WORKERS) -m long $(PYTEST)

test-interop: $(INTEROP)/.installed
	$(INTEROP)/bin/python -m pytest tests/interop -W default $(PYTEST)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(VENV)/.installed-dev
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky --quiet --jobs auto --builder html docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: $(VENV)/.installed-dev
	@set -e; for file in $(sort $(filter-out benchmarks/turns.py benchmarks/gpu_offline.py,$(wildcard benchmarks/*.py))); do \
		echo "$$file --quick"; $(BIN)/python "$$file" --quick; \
	done

bench-gpu: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/gpu.py

notebooks: $(VENV)/.installed-dev
	@set -e; for file in $(sort $(wildcard notebooks/*.ipynb)); do \
		echo "$$file"; PLOTLY_RENDERER=plotly_mimetype+png $(BIN)/jupyter-execute --inplace "$$file"; \
	done

clean:
	rm -rf $(VENV) $(INTEROP) dist docs/_build .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find scalesearch tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@for python in $(PYTHONS); do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
		found="$$python"; \
		"$$python" -c 'import ensurepip, venv' >/dev/null 2>&1 && break; \
		broken="$$python"; found=; \
	done; \
	if [ -n "$$found" ]; then \
		echo "Creating $(VENV) with $$("$$found" --version)"; \
		"$$found" -m venv --clear $(VENV); \
	elif [ -n "$$broken" ]; then \
		echo "$$broken cannot create virtual environments: install its venv module (Debian, Ubuntu: python3-venv)" >&2; \
		exit 1; \
	else \
		echo "Python 3.11 or newer is needed, but none of these is: $(PYTHONS) (make PYTHON=/path/to/python)" >&2; \
		exit 1; \
	fi

$(VENV)/.installed: $(INPUTS) | $(BIN)/python
	@echo "Installing scalesearch into $(VENV): one to three minutes, once"
	@$(PIP) install --constraint $(CONSTRAINTS) --editable .
	@touch $@

$(VENV)/.installed-dev: $(INPUTS) | $(BIN)/python
	@echo "Installing scalesearch and its test tools into $(VENV): one to three minutes, once"
	@$(PIP) install --constraint $(CONSTRAINTS) --editable '.[dev]'
	@touch $(VENV)/.installed $@

$(INTEROP)/.installed: $(INPUTS) $(INTEROP_CONSTRAINTS) | $(BIN)/python
	@echo "Installing scalesearch, PyTorch and its libraries into $(INTEROP): minutes, once"
	@$(BIN)/python -m venv --clear $(INTEROP)
	@$(INTEROP)/bin/python -m pip --disable-pip-version-check --quiet install \
		--constraint $(CONSTRAINTS) --constraint $(INTEROP_CONSTRAINTS) --editable . \
		hypothesis pytest timm torch torchvision transformers
	@touch $@
