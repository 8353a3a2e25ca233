# runsc-py: set-up, tests and benchmarks. `make demo` and `make test` need nothing done before them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PY := .venv/bin/python
TESTS ?= tests
CORE_SOURCES := $(shell find native -name '*.[chS]' -not -name '_core.c' -not -path '*/build/*' 2>/dev/null) \
	$(filter-out native/_filters.py,$(wildcard native/*.py)) scripts/build_filters.py gofer/confine.py sentry/confine.py

.PHONY: help venv native roots guest demo test check lint bench clean

help:  ## show what there is to make
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 16

venv: .venv/.installed  ## .venv with everything installed, the command in .venv/bin/runsc-py

.venv/.installed: pyproject.toml setup.py scripts/venv.sh
	@scripts/venv.sh

native: .venv/.core  ## build the C core (native/_core)

.venv/.core: .venv/.installed $(CORE_SOURCES)
	@if [ -e native/build.py ]; then \
		echo "== building the C core"; \
		$(PY) native/build.py && PYTHONPATH=. $(PY) scripts/build_filters.py; \
	fi
	@$(PY) -m compileall -q runsc_py sentry gofer native
	@touch $@

guest: ## build the guest probe and the benchmark programs (static C)
	@$(MAKE) -C tests/guest
	@$(MAKE) -C benchmarks

roots: venv  ## make the test roots (busybox, Debian) in the user's cache folder
	@scripts/test-packages.sh
	@$(PY) -m tests.roots

demo: venv native  ## set all up and show a sandboxed session
	@scripts/demo.sh

test: venv native roots guest  ## set all up and run every test
	@$(PY) -m pytest $(TESTS)

check: venv native  ## the tests that need neither root nor a sandbox
	@$(PY) -m pytest -m "not sandbox" $(TESTS)

lint: venv  ## ruff and mypy
	@$(PY) -m ruff check .
	@$(PY) -m mypy

bench: venv native guest  ## measure against bare Linux and runc, and print the ratios
	@$(PY) -m benchmarks

clean:  ## remove what was built (the test roots stay in the cache)
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache tests/guest/build benchmarks/build \
		native/_core.c native/_core*.so native/_filters.py native/build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
