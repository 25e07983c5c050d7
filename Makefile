# Two commands do all the set-up: `make run` and `make test`. `make help` lists the rest.

PYTHON ?= python3
DEMO_SECONDS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := "$(BIN)/python" -m pip install --quiet --disable-pip-version-check

# The tests start hundreds of processes: none of them should compile every module again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run quick cover test explore check picture screenshots openapi format hooks bench storm lock release-check clean

help:  ## list what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile

define environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "error: Python: $(PYTHON) is missing or older than 3.11; install it, or name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
		|| { echo "error: Python's venv: it is not installed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@test -x "$(BIN)/python" && "$(BIN)/python" -c '' 2>/dev/null || { rm -rf "$(VENV)"; $(PYTHON) -m venv "$(VENV)"; }
endef

# Stamps: an environment is installed again only when one of these files changes, so a second run needs no network.
# The versions are those of the lock file. If they cannot be installed here, the newest that pyproject.toml allows are.
$(VENV)/run.stamp: pyproject.toml requirements/run.txt
	$(environment)
	@echo "installing workermon into $(VENV) ..." >&2
	@{ $(PIP) --require-hashes --requirement requirements/run.txt \
			&& $(PIP) --no-deps --no-build-isolation --editable .; } \
		|| { echo "warning: lock file: its versions cannot be installed here; installing the newest allowed ones" >&2; \
			$(PIP) --editable .; }
	@touch "$@"

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements/dev.txt
	@echo "installing what the tests need ..." >&2
	@$(PIP) --require-hashes --requirement requirements/dev.txt \
		|| { echo "warning: lock file: its versions cannot be installed here; installing the newest allowed ones" >&2; \
			$(PIP) --editable '.[dev,bench]'; }
	@touch "$@"

run: $(VENV)/run.stamp  ## watch the demo: a simulated fleet, nothing else needed (DEMO_SECONDS=60 ends it)
	@"$(BIN)/workermon" demo $(if $(DEMO_SECONDS),--seconds $(DEMO_SECONDS))

# Tests wait too: one process more than two cores keeps both busy. Those with servers wait longer: two more.
quick: $(VENV)/dev.stamp  ## the tests that need no process and no server (a minute)
	@"$(BIN)/python" -m pytest -n 3 --dist worksteal -m "not integration" --hypothesis-profile=quick $(ARGS)

cover: $(VENV)/dev.stamp  ## the tests of make quick, with the branches that they cover (fails below the figure in pyproject.toml)
	@"$(BIN)/python" -m pytest -n 2 --dist worksteal -m "not integration" --cov --cov-report=term $(ARGS)

test: $(VENV)/dev.stamp  ## every test that can run here
	@"$(BIN)/python" -m pytest -n 4 --dist worksteal $(ARGS)

explore: $(VENV)/dev.stamp  ## the property tests with examples that no run has drawn before (repeat it as long as you like)
	@"$(BIN)/python" -m pytest -n 2 --dist worksteal -m hypothesis --hypothesis-profile=explore $(ARGS)

check: $(VENV)/dev.stamp  ## format, lint (Python and Lua), spelling, types, sizes
	@"$(BIN)/python" -m ruff format --check .
	@"$(BIN)/python" -m ruff check .
	@"$(BIN)/python" -m tests.support.lua_lint
	@"$(BIN)/typos"
	@"$(BIN)/python" -m mypy
	@"$(BIN)/python" -m pytest --quiet tests/test_ratchet.py

format: $(VENV)/dev.stamp  ## write the format
	@"$(BIN)/python" -m ruff format .
	@"$(BIN)/python" -m ruff check --fix .

hooks: $(VENV)/dev.stamp  ## have git run the checks before each commit
	@"$(BIN)/pre-commit" install

bench: $(VENV)/dev.stamp  ## measure, in ratios against a baseline of the same run (an hour; BENCH_FULL=1 takes longer)
	@for program in benchmarks/bench_*.py; do "$(BIN)/python" "$$program" || exit 1; done

storm: $(VENV)/dev.stamp  ## a longer storm of faults than the tests have (STORM="--seconds 600 --seed 7")
	@"$(BIN)/python" -m tests.faults.storm $(or $(STORM),--seconds 300)

openapi: $(VENV)/run.stamp  ## write docs/reference/openapi.json anew
	@"$(BIN)/python" docs/write_openapi.py

screenshots: $(VENV)/dev.stamp  ## photograph the demo's page for docs/pictures anew (3 minutes; needs chromium)
	@"$(BIN)/python" docs/take_screenshots.py

picture: $(VENV)/run.stamp  ## record docs/demo.svg anew
	@"$(BIN)/python" docs/record_demo.py

# One resolution for Python 3.11 and newer, on Linux and macOS. The files name no index: pip's own configuration does.
$(VENV)/lock.stamp:
	$(environment)
	@$(PIP) 'uv>=0.9'
	@touch "$@"

LOCK := "$(BIN)/uv" pip compile pyproject.toml --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-annotate --custom-compile-command "make lock"

lock: $(VENV)/lock.stamp  ## renew the lock files: the newest versions that pyproject.toml allows (then run make test)
	@$(LOCK) --group build --output-file requirements/run.txt
	@$(LOCK) --group build --all-extras --constraint requirements/run.txt --output-file requirements/dev.txt

release-check: $(VENV)/dev.stamp  ## build the package, install the wheel in a new environment, run its commands
	@PYTHON="$(abspath $(BIN))/python" .ci/release-check

clean:  ## remove what was made
	@rm -rf "$(VENV)" build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
