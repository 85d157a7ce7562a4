# Everything runs in an environment of its own below .venv; each target installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export SWARMRUN_HOME ?= $(CURDIR)/build/home

.PHONY: help install demo demo-unguarded helpdesk test test-kill test-cluster e2e kind-up lint format crds bench bench-merge bench-cluster clean

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "swarmrun needs Python >= 3.11; try: make PYTHON=python3.12"; exit 1; }
	@echo "installing into $(VENV) (a minute or two, once)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

## make install          what development needs, into .venv
install: $(STAMP)

## make demo             a URL shortener from an empty repository, with recorded models and no network
demo: $(STAMP)
	@scripts/demo.sh url-shortener

## make demo-unguarded   the same recording with the guards off: the bad result that they prevent
demo-unguarded: $(STAMP)
	@scripts/demo.sh url-shortener --no-guards

## make helpdesk         a second example over an existing repository with one failing test
helpdesk: $(STAMP)
	@scripts/demo.sh helpdesk

## make test             all tests
test: $(STAMP)
	$(BIN)/python -m pytest

## make test-kill        kill -9 at every recorded step boundary and at random instants (minutes; prints its seed)
test-kill: $(STAMP)
	$(BIN)/python bench/kill_runs.py
	$(BIN)/python bench/durable_kills.py

## make test-cluster     sandboxes, git Pods and the operator on the cluster of KUBECONFIG, one for tests. Its Pods' addresses
##                       must be reachable; images localhost/swarmrun-{sandbox,operator}:dev loaded. More: tests/cluster/conftest.py
test-cluster: $(STAMP)
	SWARMRUN_TEST_CLUSTER=1 $(BIN)/python -m pytest tests/cluster

## make e2e              whole runs on the cluster of KUBECONFIG, one for tests, from nothing: the demo in Pods, 20 kills,
##                       50 runs at once, an upgrade, endings, hostile agents (40 minutes). Variables: scripts/e2e.sh
e2e: $(STAMP)
	@scripts/e2e.sh

## make kind-up          a kind cluster with both images in it
kind-up:
	@scripts/kind-up.sh

## make lint             ruff, pyright, import-linter, generated files
lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

## make crds             crds/ and the chart's copy from the pydantic models
crds: $(STAMP)
	$(BIN)/python -m swarmrun.api.crdgen crds charts/swarmrun/files/crds

## make bench            the figures: tables, and build/bench/*.json
bench: $(STAMP)
	$(BIN)/python bench/all.py

## make bench-merge REPOS="dir dir …"   merges of real histories replayed
bench-merge: $(STAMP)
	$(BIN)/python bench/merge_bench.py $(REPOS)

## make bench-cluster    the figures that need a cluster, as make e2e has it: a table, and build/bench/cluster.json
bench-cluster: $(STAMP)
	$(BIN)/python bench/all.py cluster

clean:
	rm -rf build
