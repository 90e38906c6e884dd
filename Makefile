# What a person does with this checkout; `make` alone lists it. PYTHON=... chooses the interpreter for .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
WORKERS ?= 2

.PHONY: help demo test check bench nightly clean
help:
	@echo "make demo     see a kernel in ring 1 run a program in ring 3"
	@echo "make test     the whole test suite"
	@echo "make check    formatting, lint, types and tests"
	@echo "make bench    what things cost on this computer"
	@echo "make nightly  the test suite with long campaigns"
	@echo "make clean    remove what these have made"

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; say which one with: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) can't make virtual environments; install its venv package (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "making $(VENV) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,check]'
	@touch $@

demo: $(READY)
	@mkdir -p build
	@$(BIN)/guestkit build examples/rings.gk -o build/rings.elf
	@$(BIN)/pvemu run build/rings.elf

test: $(READY)
	@$(BIN)/python -m pytest -n $(WORKERS)

check: $(READY)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -n $(WORKERS)

bench: $(READY)
	@$(BIN)/pvemu bench --quick
	@$(BIN)/python -m benchmarks.promises

nightly: $(READY)
	@$(BIN)/python -m pytest -n $(WORKERS) -m "nightly or not nightly" --hypothesis-profile nightly \
	  -o faulthandler_timeout=7200
	@$(BIN)/python -m pytest -n $(WORKERS) --state-window context --clock count

clean:
	@rm -rf $(VENV) build dist .hypothesis .mypy_cache .ruff_cache .pytest_cache .coverage
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
