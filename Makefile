# Two commands do all the set-up: `make run` and `make test`. `make help` lists the rest.

PYTHON ?= python3
DEMO_SECONDS ?=
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help run test check format bench storm clean

help:  ## list what there is
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile

# Made again only when what is installed changes, so a second run needs no network.
$(VENV)/run.stamp: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "error: Python: $(PYTHON) is missing or older than 3.11; install it, or name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
		|| { echo "error: Python's venv: it is not installed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@test -x "$(BIN)/python" && "$(BIN)/python" -c '' 2>/dev/null || { rm -rf "$(VENV)"; $(PYTHON) -m venv "$(VENV)"; }
	@echo "installing workermon into $(VENV) ..." >&2
	@"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --editable .
	@touch "$@"

$(VENV)/dev.stamp: $(VENV)/run.stamp
	@echo "installing what the tests need ..." >&2
	@"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch "$@"

run: $(VENV)/run.stamp  ## watch the demo: a simulated fleet, nothing else needed (DEMO_SECONDS=60 ends it)
	@"$(BIN)/python" -m workermon demo $(if $(DEMO_SECONDS),--seconds $(DEMO_SECONDS))

test: $(VENV)/dev.stamp  ## every test that can run here
	@"$(BIN)/python" -m pytest -n 2 --dist worksteal $(ARGS)

check: $(VENV)/dev.stamp  ## format, lint, types
	@"$(BIN)/python" -m ruff format --check .
	@"$(BIN)/python" -m ruff check .
	@"$(BIN)/python" -m mypy

format: $(VENV)/dev.stamp  ## write the format
	@"$(BIN)/python" -m ruff format .
	@"$(BIN)/python" -m ruff check --fix .

$(VENV)/bench.stamp: $(VENV)/dev.stamp
	@"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch "$@"

bench: $(VENV)/bench.stamp  ## measure, in ratios against a baseline of the same run (10 minutes; BENCH_FULL=1 takes longer)
	@for program in benchmarks/bench_*.py; do "$(BIN)/python" "$$program" || exit 1; done

storm: $(VENV)/dev.stamp  ## a longer storm of faults than the tests have (STORM="--seconds 600 --seed 7")
	@PYTHONPATH=. "$(BIN)/python" tests/faults/storm.py $(or $(STORM),--seconds 300)

clean:  ## remove what was made
	@rm -rf "$(VENV)" build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
