# Two commands: 'make demo' runs a part of the study at the smoke scale, 'make test' runs the tests.
# Both create the virtual environment .venv first, from the versions in requirements.lock.

PYTHON ?= python3
BIN = .venv/bin
SNAKEMAKE = $(BIN)/snakemake --profile profiles/local

.DEFAULT_GOAL := help
.PHONY: help install demo mini test bench lint clean

help: ## show this help
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## /make \1\t/'

install: .venv/installed ## create .venv with everything needed

# The stamp is the last step, so that an interrupted installation is done again.
.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer is needed; name one with 'make PYTHON=python3.11 ...'"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch .venv/installed

demo: install ## make Table 5 and Figure 4 at the smoke scale and say what came out
	$(SNAKEMAKE) table05 figure4 --quiet rules reason --config scale=smoke
	@$(BIN)/elf report --partial --scale smoke
	@echo
	@$(BIN)/elf summary --scale smoke

mini: install ## make all tables and figures of the paper and the report at the smoke scale
	$(SNAKEMAKE) --quiet rules reason --config scale=smoke
	@echo
	@$(BIN)/elf summary --scale smoke

test: install ## run the tests
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

bench: install ## compare the speed with that of the published scripts' way, in docs/results/speed
	$(BIN)/python -m benchmarks.bench --folder docs/results/speed

lint: install ## check style of code, rules and workflow
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint

clean: ## remove results, logs and the environment (not the data)
	rm -rf .venv results logs timings .snakemake .pytest_cache .ruff_cache .hypothesis
