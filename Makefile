# Everything happens in the private environment $(VENV); no pip call when nothing changed.

VENV ?= .venv
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11
RECENT := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in $(CANDIDATES); do \
	if $$python -c '$(RECENT)' >/dev/null 2>&1; then echo $$python; break; fi; done)
# More extras of pyproject.toml to install for the tests: EXTRAS=qt
EXTRAS ?=
PYTEST_ARGS ?=
# Many tests wait for other processes: two at once for each processor (tests/conftest.py).
# PYTEST_ARGS="-n 0" is one by one.
PARALLEL := -n auto --maxprocesses 8
BENCH_ARGS ?=
FUZZ_SECONDS ?= 300

BIN := $(VENV)/bin
# Brings $(VENV) up to date with the extras named after it.
environment = $(if $(strip $(PYTHON)),,$(error Python 3.11 or later is needed: \
	install it, or name one with "make PYTHON=/path/to/python3"))$(PYTHON) scripts/environment.py $(VENV)
CHECKS := cli docs lint test $(EXTRAS)

.DEFAULT_GOAL := help
.PHONY: help demo test pytest lint types format docs bench fuzz package environment clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | while IFS="$$(printf '\t')" read -r name text; \
		do printf '  make %-12s %s\n' "$$name" "$$text"; done

demo:  ## run the demonstration, with threads, with processes and over TLS, and check its results
	@$(environment) cli
	$(BIN)/portkit demo --verify
	$(BIN)/portkit demo --over message --verify
	$(BIN)/portkit demo --over socket --verify

test: lint types docs  ## lint, types, documentation and every test with coverage
	$(BIN)/python -m pytest --cov --cov-report=term $(PARALLEL) $(PYTEST_ARGS)

pytest:  ## the tests alone, without coverage; PYTEST_ARGS="-k name -x"
	@$(environment) cli test $(EXTRAS)
	$(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

lint: environment  ## style, formatting and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: environment  ## mypy, pyright, and the completeness of the public types
	$(BIN)/mypy
	$(BIN)/python scripts/check_types.py

format: environment  ## mend style and formatting
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

docs: environment  ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench:  ## run the benchmarks; BENCH_ARGS are theirs
	@$(environment) bench cli
	$(BIN)/python -m bench $(BENCH_ARGS)

fuzz:  ## feed the wire protocol's decoder damaged bytes for FUZZ_SECONDS
	@$(environment) cli
	$(BIN)/python scripts/fuzz_decoder.py --seconds $(FUZZ_SECONDS)

package: environment  ## build sdist and wheel into dist/ and check them
	$(BIN)/python scripts/check_wheel.py

environment:  ## make the environment that the checks need
	@$(environment) $(CHECKS)

clean:  ## remove the environment and everything built
	rm -rf $(VENV) .venv-* build dist site .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache \
		.pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
