# make demo: the main job on the embedded data set. make test: all tests. Each sets itself up first, in .venv.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo demo-definitions ablations test lint lock clean

# The first Python of 3.11 or newer; name another with `make demo PYTHON=...`.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo $$python; break; fi; done)
# Two, so that a laptop stays usable and memory under 6 GB; more are welcome: make demo CORES=8.
CORES ?= 2
# TORCH=cpu: PyTorch's build without CUDA, from PyTorch's own index (Linux; elsewhere the registry's has no CUDA).
TORCH ?=
BIN := .venv/bin
INSTALLED := .venv/installed
# Downloads are kept beside the environment, on the disk that was asked for space: a home may be small.
UV := UV_CACHE_DIR=.venv/cache $(BIN)/python -m uv pip install --python $(BIN)/python
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-cache-dir

help:
	@echo "make demo   download, train, evaluate and report on the embedded data set (results/demo/report/index.html)"
	@echo "make demo TORCH=cpu   the same; on Linux without CUDA: the installation takes 1.8 GB instead of 6.6"
	@echo "make demo-definitions   the same with definitions from a server on this machine (results/demo_definitions)"
	@echo "make ablations   what each part is worth on the same data (results/demo/tables/ablations.tsv)"
	@echo "make test   run all tests"
	@echo "make lint   check the style of code and workflow"
	@echo "make lock   write requirements.lock and environment.yaml after a change of pyproject.toml"
	@echo "make clean  remove .venv (results and archives stay)"

# The marker is written last: an installation that was cut short is taken up again. The lock is complete (--no-deps),
# and what builds a package without a wheel is of the lock too (--build-constraints).
$(INSTALLED): requirements.lock requirements-uv.lock pyproject.toml
	@if [ -z "$(PYTHON)" ] || ! "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
		echo "PolCLIP needs Python 3.11 or newer; $(or $(PYTHON),python3) is $$("$(or $(PYTHON),python3)" --version 2>&1 || true)." \
			"Install one and type, for example: make $(or $(MAKECMDGOALS),demo) PYTHON=python3.12" >&2; exit 1; fi
	@"$(PYTHON)" -m polclip.installation $(TORCH)
	@"$(PYTHON)" -m venv .venv || { \
		echo "Python's venv is missing: install it (Debian and Ubuntu: apt install python3-venv), or name another" \
			"Python: make $(or $(MAKECMDGOALS),demo) PYTHON=..." >&2; rm -rf .venv; exit 1; }
	@echo "Installing the packages of requirements.lock into .venv (some minutes, once)"
	@lock=requirements.lock; \
	if [ "$(TORCH)" = cpu ]; then \
		lock=.venv/without_cuda.lock; \
		awk '/^[^ ]/ {cuda = /^(torch|torchvision|triton|cuda-[a-z]+|nvidia-[a-z0-9-]+)==/} !cuda' requirements.lock > $$lock; \
		$(PIP) --no-deps --index-url https://download.pytorch.org/whl/cpu $$(grep -oE '^torch(vision)?==[0-9.]+' requirements.lock) || exit 1; \
	fi; \
	{ $(PIP) --require-hashes -r requirements-uv.lock \
		&& $(UV) --no-deps --require-hashes --build-constraints requirements.lock -r $$lock; } || { \
		echo "uv could not install them; pip tries, which takes some minutes longer" >&2; \
		$(PIP) --no-deps --require-hashes -r $$lock; }
	@$(PIP) --quiet --no-deps --no-build-isolation -e .
	@rm -rf .venv/cache
	@touch $@

demo: $(INSTALLED)
	@$(BIN)/snakemake --cores $(CORES) --configfile presets/demo.yaml
	@echo "The report: results/demo/report/index.html"

# The server answers from the inventory, and ends with the run.
demo-definitions: $(INSTALLED)
	@$(BIN)/python tests/openai_server.py --port 8765 --inventory results/demo_definitions/inventory & server=$$!; \
		trap 'kill $$server' EXIT; \
		$(BIN)/snakemake --cores $(CORES) --configfile presets/demo.yaml presets/demo_definitions.yaml
	@echo "The report: results/demo_definitions/report/index.html"

ablations: $(INSTALLED)
	@$(BIN)/snakemake ablations --cores $(CORES) --configfile presets/demo.yaml
	@echo "The table: results/demo/tables/ablations.tsv"

test: $(INSTALLED)
	@$(BIN)/python -m pytest

lint: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/snakefmt --check Snakefile rules
	@$(BIN)/snakemake --lint

lock: $(INSTALLED)
	@$(BIN)/python containers/lock.py

clean:
	@rm -rf .venv
