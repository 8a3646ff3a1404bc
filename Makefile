# `make demo` and `make test` each do their own set-up, from a bare clone, once.
#
#   make demo                 reconstruct a real chest CT and a real brain MR into out/demo
#   make test                 the whole test suite, doctests included
#   make check                what the continuous integration runs
#   make test ARGS="-k cone"  arguments for pytest, or for the demo
#   make CONSTRAINTS=/dev/null test    with the newest versions of everything

PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(shell \
	$(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(p))))
CONSTRAINTS ?= constraints.txt
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.DEFAULT_GOAL := help
.PHONY: help demo test lint check install clean

help:
	@sed -n 's/^#   //p' Makefile

demo: $(STAMP)
	$(BIN)/medrecon demo $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict medrecon tests

check:
	.ci/run

install: $(STAMP)

# Debian keeps ensurepip in a package of its own; pip can be put in from outside instead.
$(STAMP): pyproject.toml $(wildcard $(CONSTRAINTS))
	@test -n "$(PYTHON)" || { echo "medrecon needs Python 3.11 or newer" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { $(PYTHON) -m venv --clear --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) out build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
