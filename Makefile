# `make demo` runs the main job on the embedded corpus, `make test` runs every test.
# `make easy-vqa` runs the tutorial of docs/own_data.md: your own data, here those of the package easy-vqa.
# Each makes the environment it needs in .venv, and again only when pyproject.toml changes.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

VENV := .venv
# The first Python that Snakemake accepts; `make PYTHON=/path/to/python demo` takes another.
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$name" && break; done)
ENTER := export PATH="$(CURDIR)/$(VENV)/bin:$$PATH" PYTHONNOUSERSITE=1;
CORES ?= all
DEMO := results/vqa/test_predict.json results/gqa/submit_predict.json results/nlvr2/test_predict.csv report registry
EASY_VQA ?= easy_vqa
TESTS ?= tests/unit tests/golden tests/bench tests/e2e tests/workflow

.PHONY: help environment demo easy-vqa test lint clean

help:
	@grep -E '^# ' Makefile | head -3 | cut -c3-
	@echo "Others: make environment, make lint, make clean (removes .venv)."

environment: $(VENV)/.for-demo

demo: $(VENV)/.for-demo
	@$(ENTER) snakemake --cores $(CORES) --quiet rules -- $(DEMO)
	@cat results/report/summary.txt
	@echo "Report: $(CURDIR)/results/report/index.html"

easy-vqa: $(VENV)/.for-easy-vqa
	@$(ENTER) python docs/easy_vqa/export.py $(EASY_VQA)/mine
	@$(ENTER) snakemake --cores $(CORES) --quiet rules --directory $(EASY_VQA) \
	--configfile docs/easy_vqa/config.yaml -- report
	@cat $(EASY_VQA)/results/report/summary.txt
	@echo "Report: $(abspath $(EASY_VQA))/results/report/index.html"

# Quick ones first, and the longest not last; two at a time, each on one thread.
test: $(VENV)/.for-test
	@$(ENTER) export OMP_NUM_THREADS=1; \
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(wildcard $(TESTS))

lint: $(VENV)/.for-test
	@$(ENTER) ruff check . && ruff format --check . && mypy && snakefmt --check Snakefile workflow/rules \
	&& snakemake --lint

clean:
	rm -rf $(VENV)

$(VENV)/bin/python:
	@echo "Making the environment in $(VENV), once. This takes some minutes."
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or later found; Snakemake 9 needs one." \
	"Install it, or run: make PYTHON=/path/to/python demo" >&2; exit 2; }
	@"$(PYTHON)" -m venv $(VENV) || { echo "make: $(PYTHON) -m venv failed;" \
	"on Debian or Ubuntu run: apt-get install python3-venv" >&2; rm -rf $(VENV); exit 2; }

$(VENV)/.for-demo: pyproject.toml | $(VENV)/bin/python
	@$(ENTER) python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.for-easy-vqa: $(VENV)/.for-demo
	@$(ENTER) python -m pip install --quiet --disable-pip-version-check --editable '.[easy-vqa]'
	@touch $@

$(VENV)/.for-test: pyproject.toml | $(VENV)/bin/python
	@$(ENTER) python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(VENV)/.for-demo
