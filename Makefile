# make demo    train both stages briefly on the clips that ship with the package, then generate a video
# make test    every test
# make check   format, lint, types and import rules
# make test-newest  every test with the newest versions of all libraries, in .venv-newest
# make clean   remove caches and build leftovers; .venv and the results of runs stay
#
# Each makes .venv when it is missing, with the versions of constraints.txt.

PYTHON ?= python3
PIP := .venv/bin/python -m pip --disable-pip-version-check -qq install --no-compile -c constraints.txt
started := $(shell date +%s)

# Compiling all that pip installs takes longer than installing it, so each module is compiled when it is first imported.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test test-newest check clean
.NOTPARALLEL:

help:
	@sed -n 's/^# make/make/p' Makefile

demo: .venv/.runtime
	@set_up=$$(( $$(date +%s) - $(started) )); \
	.venv/bin/magvit2 demo; status=$$?; \
	echo "Set-up: $$set_up s. Set-up and demo: $$(( $$(date +%s) - $(started) )) s."; \
	exit $$status

# One thread for each of the two workers: two would fight over the cores of a small machine.
test: .venv/.dev
	OMP_NUM_THREADS=1 .venv/bin/pytest -n 2 $(ARGS)

# Without constraints.txt: what a user gets who installs the package today.
test-newest:
	@$(PYTHON) -m venv --clear .venv-newest
	.venv-newest/bin/python -m pip --disable-pip-version-check -qq install -e '.[dev]'
	OMP_NUM_THREADS=1 .venv-newest/bin/pytest -n 2 $(ARGS)

# pyright and import-linter see the folders as sub-packages through the symlinks in .links.
check: .venv/.dev
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 .venv/bin/pyright -p .links
	cd .links && ../.venv/bin/lint-imports --config ../pyproject.toml --no-cache --no-logo

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# A stamp is written last, so a set-up that broke off is begun again.
.venv/.runtime: pyproject.toml constraints.txt
	$(call set_up,.)

.venv/.dev: pyproject.toml constraints.txt
	$(call set_up,.[dev])
	@touch .venv/.runtime

# torch comes before what depends on it, so that nothing can choose another one.
define set_up
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12 ...")'
	@echo "Setting up .venv: torch (the large part) ..."
	@.venv/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@$(PIP) setuptools torch
	@echo "Setting up .venv: everything else ..."
	@$(PIP) --no-build-isolation -e '$(1)'
	@echo "Setting up .venv: done after $$(( $$(date +%s) - $(started) )) s."
	@touch $@
endef
