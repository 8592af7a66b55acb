# make install      install the package into .venv
# make demo         train both stages briefly on the shipped clips, then generate a video
# make test         run every test
# make check        check format, lint, types and import rules
# make test-newest  run every test with the newest version of every library, in .venv-newest
# make clean        remove caches and build files; virtual environments and results of runs are kept
#
# install, demo, test and check create .venv if it is missing, with the versions of constraints.txt.

PYTHON ?= python3
PIP := .venv/bin/python -m pip --disable-pip-version-check -qq install --no-compile -c constraints.txt
started := $(shell date +%s)

# Compiling everything that pip installs takes longer than the installation. Modules are compiled at first import instead.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help install demo test test-newest check clean
.NOTPARALLEL:

help:
	@sed -n 's/^# make/make/p' Makefile

install: .venv/.runtime

demo: .venv/.runtime
	@set_up=$$(( $$(date +%s) - $(started) )); \
	.venv/bin/magvit2 demo; status=$$?; \
	echo "Set-up: $$set_up s. Set-up and demo: $$(( $$(date +%s) - $(started) )) s."; \
	exit $$status

# One thread per worker: more threads than cores slow each other down on a small machine.
test: .venv/.dev
	OMP_NUM_THREADS=1 .venv/bin/pytest -n 2 $(ARGS)

# Without constraints.txt, as users install the package.
test-newest:
	@.venv-newest/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv-newest
	.venv-newest/bin/python -m pip --disable-pip-version-check -qq install --upgrade --upgrade-strategy eager -e '.[dev]'
	OMP_NUM_THREADS=1 .venv-newest/bin/pytest -n 2 $(ARGS)

# The symlinks in .links show the folders to pyright and import-linter as sub-packages.
check: .venv/.dev
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 .venv/bin/pyright -p .links
	cd .links && ../.venv/bin/lint-imports --config ../pyproject.toml --no-cache --no-logo

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

# The stamp is written last, so an interrupted set-up starts again.
.venv/.runtime: pyproject.toml constraints.txt
	$(call set_up,.)

.venv/.dev: pyproject.toml constraints.txt
	$(call set_up,.[dev])
	@touch .venv/.runtime

# torch is installed before its dependents, so that they cannot select another version.
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
