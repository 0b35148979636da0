# Two targets do all the set-up by themselves: `make run` and `make test`. They need Python 3.11 or
# later and make; everything else is installed into .venv here. PYTHON=... chooses the interpreter.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
DATA ?= ./streamer-data
TEST_WORKERS ?= 2

# The long forms of tests/faults; `make test` has the short ones.
CRASH_CYCLES ?= 1000
POWER_CUTS ?= 200
SOAK_S ?= 600
GROUPS_S ?= 120

# A real log file stands beside the repository on our machines; the sample is always there.
DEMO_LOG ?= $(firstword $(wildcard ../shared/data/loghub/*.log) tests/data/sample.log)

.PHONY: help run test demo lint bench crash power soak groups wheel clean
.DEFAULT_GOAL := help

help:
	@echo "make run    install into .venv and start the daemon (data in $(DATA))"
	@echo "make test   install with the test tools and run the tests"
	@echo "make demo   send a log file through a daemon of its own and watch it"
	@echo "make lint   ruff and mypy"
	@echo "make bench  measure this machine; JSON on standard output"
	@echo "make crash  $(CRASH_CYCLES) SIGKILLs under load; power: $(POWER_CUTS) power cuts (root); soak: $(SOAK_S) s of overload"
	@echo "make groups consumers and the daemon under SIGKILL, $(GROUPS_S) s in each mode of groups"
	@echo "make wheel  build the wheel and check what it installs"
	@echo "make clean  remove what the others made, except for data"

run: $(VENV)/.installed
	$(BIN)/streamer run --data $(DATA)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(TEST_WORKERS)

demo: $(VENV)/.installed
	$(BIN)/streamer demo $(DEMO_LOG)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed
	@for workload in limits produce post single shared consume latency; do \
		$(BIN)/streamer bench $$workload || exit; \
	done

crash: $(VENV)/.installed-dev
	$(BIN)/python -m tests.faults.crash --cycles $(CRASH_CYCLES)

# The control runs without fsync: it must lose records, or the rehearsal would show nothing.
power: $(VENV)/.installed-dev
	$(BIN)/python -m tests.faults.power --cuts 20 --control
	$(BIN)/python -m tests.faults.power --cuts $(POWER_CUTS)

soak: $(VENV)/.installed-dev
	$(BIN)/python -m tests.faults.soak --seconds $(SOAK_S)

groups: $(VENV)/.installed-dev
	@for mode in shared ordered key; do \
		$(BIN)/python -m tests.faults.groups --seconds $(GROUPS_S) --mode $$mode || exit; \
	done

wheel: $(VENV)/.installed-dev
	rm -rf dist
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	$(BIN)/python .ci/wheel_names.py dist/*.whl

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "streamer needs Python 3.11 or later; '$(PYTHON)' is not that. Try: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make environments: its venv module is missing." >&2; \
		echo "On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# An editable install, made anew when the dependencies change.
$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.installed
