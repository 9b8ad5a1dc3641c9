# Two commands do everything on a machine with Python 3.11+ and make:
#   make demo   set up, run the quickstart suite, print the table and where the report is
#   make test   set up and pass the tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JOBS := 2

.PHONY: demo test test-slow rehearsals gpu-check check fast lint types bench lock setup clean
.DELETE_ON_ERROR:

demo: setup
	$(BIN)/vitbench run quickstart

test: setup
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m "not slow"

test-slow: setup
	$(BIN)/python -m pytest -m "slow and not rehearsal"

# Every suite at its large scales: on a pretended GPU, and on this CPU to its tables.
rehearsals: setup
	$(BIN)/python -m pytest -m rehearsal

# What only a CUDA device can show, then one table; without a device it says so and ends with 2.
gpu-check: setup
	@$(BIN)/python -m tests.gpu

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python tests/contracts/test_layers.py
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m "not ordinary and not slow"

setup: $(READY)

# Packages are compiled here, once: where Python writes no bytecode (PYTHONDONTWRITEBYTECODE), every
# process would compile torch, timm and Ray again, which takes longer than a small job.
$(READY): requirements.lock pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the locked dependencies into $(VENV) (about 6 GB, once) ..."
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > $(VENV)/uv.txt
	@$(BIN)/python -m pip install --quiet --require-hashes --requirement $(VENV)/uv.txt
	@$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock \
	  || $(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --no-index --editable .
	@touch $@

# Resolve the dependencies anew, for every platform and Python version at once.
lock: setup
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade --quiet --custom-compile-command "make lock" --output-file requirements.lock

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
