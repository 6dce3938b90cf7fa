# Every target sets up what it needs first. `make` alone prints this list.
PYTHON ?= python3
BIN := .venv/bin
SEED ?= 7
NODES ?= 9
ENGINE ?= auto

.DEFAULT_GOAL := help
.PHONY: help setup check test e2e run swarm demo bench bench-sync sim fuzz docs clean

help:  ## print this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup:  ## make .venv with the locked dependencies (checks compiler and headers first)
	@$(PYTHON) scripts/setup.py

check: setup  ## format, lint, types, layers, fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/pytest -q -m "not e2e and not engine and not slow and not gpu"

test: setup  ## every test, the story with the real vLLM among them
	$(BIN)/hansa engine install
	$(BIN)/pytest -m "not gpu"

e2e: setup  ## only the tests that start real processes
	$(BIN)/hansa engine install
	$(BIN)/pytest -m "e2e or engine"

run: setup  ## start a node with embedded storage
	@$(BIN)/hansa run

swarm: setup  ## three nodes on loopback that know each other, until Ctrl-C
	@$(BIN)/python -m examples.swarm

demo: setup  ## the whole story on loopback: publish, sync, fetch, serve, call, fail over, pay
	@$(BIN)/python -m examples.demo

bench: setup  ## measure, and write bench/results/*.json
	$(BIN)/python -m bench all

bench-sync: setup  ## measure beside OrbitDB and Hyperbee (needs node and npm; some 6 minutes)
	$(BIN)/python -m bench sync-peers

sim: setup  ## replay one simulated swarm: make sim SEED=7 NODES=9
	$(BIN)/python -m tests.sim --seed $(SEED) --nodes $(NODES)

fuzz: setup  ## feed every decoder garbage for a while
	$(BIN)/pytest -q tests/wire --hypothesis-profile=fuzz -m "not slow"
	$(BIN)/python -m tests.wire.fuzzing --count 200000

docs: setup  ## write the generated pages (OpenAPI description, command line) into docs/
	$(BIN)/python -m scripts.docs

clean:  ## remove the environment and every cache (never a node's data)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
