# Two commands: 'make demo' runs a part of the study in three minutes, 'make test' runs the tests of every day.
# Both create the virtual environment .venv first, from the versions in requirements.lock.

PYTHON ?= python3
BIN = .venv/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Which PyTorch: that of requirements.lock, or 'mine', the one that .venv already has; remembered from the last time.
TORCH ?= $(shell cat .venv/installed 2>/dev/null)
SNAKEMAKE = $(BIN)/snakemake --profile profiles/local

ifneq ($(filter-out mine,$(TORCH)),)
$(error TORCH=$(TORCH) is unknown; allowed is TORCH=mine, which keeps the PyTorch of .venv)
endif
# Another choice than that of the last time is another installation.
ifneq ($(TORCH),$(shell cat .venv/installed 2>/dev/null))
.PHONY: .venv/installed
endif

.DEFAULT_GOAL := help
.PHONY: help install demo mini test test-all bench lint clean

help: ## show this help
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## /make \1\t/'

install: .venv/installed ## create .venv with everything needed

# The stamp is the last step, so that an interrupted installation is done again.
.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer is needed; name one with 'make PYTHON=python3.11 ...'"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
ifeq ($(TORCH),mine)
	@$(BIN)/python -c 'import torch, torchvision' || \
	    { echo "TORCH=mine keeps the PyTorch of .venv, and there is none: install torch and torchvision there first"; exit 1; }
	awk '/^[a-z]/ { kept = !/^(torch|torchvision|triton|nvidia-[a-z0-9-]*|cuda-[a-z0-9-]*)[^a-z0-9-]/ } kept' \
	    requirements.lock > .venv/requirements.lock
	$(PIP) --require-hashes -r .venv/requirements.lock
else
	$(PIP) --require-hashes -r requirements.lock
endif
	$(PIP) --no-deps --no-build-isolation --editable .
	echo "$(TORCH)" > .venv/installed

demo: install ## make a part of Table 5 and of Figure 4 from handwritten digits and say what came out
	$(SNAKEMAKE) --quiet rules reason --config scale=demo
	@echo
	@$(BIN)/elf summary --scale demo
	@echo
	@echo "That was ELF and KD against the baseline, on images distilled with DM and on random real ones: table, figure and"
	@echo "the way of each number are in results/demo/report/index.html, which a browser opens. 'make mini' does the rest."

mini: install ## make all tables and figures of the paper and the report at the smoke scale
	$(SNAKEMAKE) --quiet rules reason --config scale=smoke
	@echo
	@$(BIN)/elf summary --scale smoke

# A module stays on one worker; the order is that of tests/conftest.py. A worker with SLURM mostly waits for it.
PYTEST = $(BIN)/python -m pytest --dist loadgroup --no-loadscope-reorder

test: install ## run the tests that start no other process
	$(PYTEST) --numprocesses 2 -m "not processes"

test-all: install ## run all tests: workflows, killed jobs, a browser and a SLURM, too
	$(PYTEST) --numprocesses 3

bench: install ## compare the speed with that of the published scripts' way, in docs/results/speed
	$(BIN)/python -m benchmarks.bench --folder docs/results/speed

lint: install ## check style of code, rules and workflow, and the walls between rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint

clean: ## remove results, logs and the environment (not the data)
	rm -rf .venv results logs timings .snakemake .pytest_cache .ruff_cache .hypothesis
