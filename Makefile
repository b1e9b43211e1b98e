# callmesh. `make` shows what there is. Everything is set up by the targets that need it.

PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
CODE   := shared services tests
# Tests in parallel, a file to a process: one more than cores, as some wait for others.
JOBS   ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))

.DEFAULT_GOAL := help
.PHONY: help setup run demo mesh test real asterisk-lab lint fmt types imports bench contracts up down lock clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# -- set-up: each step once, again when its lock file changes ----------------------------------

$(VENV)/bin/python:
	@deploy/scripts/make-venv.sh "$(PYTHON)" $(VENV)

$(VENV)/.runtime: deploy/locks/runtime.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --require-hashes --requirement deploy/locks/runtime.txt
	@touch $@

$(VENV)/.dev: deploy/locks/dev.txt $(VENV)/.runtime
	$(BIN)/pip install --quiet --require-hashes --requirement deploy/locks/dev.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --no-index --editable .
	@touch $@

tests/tools/node_modules/.package-lock.json: tests/tools/package-lock.json
	@deploy/scripts/ensure-tools.sh npm
	npm ci --prefix tests/tools --no-audit --no-fund --ignore-scripts --silent

.PHONY: servers
servers:
	@deploy/scripts/ensure-tools.sh rabbitmq

# Without it tests/lab says why: a skip, in CI a failure.
.PHONY: lab
lab:
	@$(MAKE) --no-print-directory asterisk-lab || echo "set up without it; tests/lab says so, too" >&2

# Without it tests/browser says why: a skip, in CI a failure.
.PHONY: browser
browser:
	@deploy/scripts/ensure-tools.sh chromium || echo "set up without it; tests/browser says so, too" >&2

setup: $(VENV)/.dev tests/tools/node_modules/.package-lock.json servers lab browser ## Install everything that developing and testing need

# -- using it ----------------------------------------------------------------------------------

run: $(VENV)/.runtime ## Play recorded calls through the mesh, then serve until Ctrl-C
	@$(BIN)/python -m services demo --serve

demo: $(VENV)/.runtime ## The same, and exit when the calls are done
	@$(BIN)/python -m services demo

mesh: setup ## The same with six processes over a real RabbitMQ and MongoDB, without Docker
	@$(BIN)/python -m tests.mesh

up: ## Start the whole in containers (docker compose)
	@deploy/scripts/make-secrets.sh
	docker compose up --build --detach --wait

down: ## Stop the containers; data stays in their volumes
	docker compose down

# -- developing --------------------------------------------------------------------------------

test: setup ## Run every test lane, with real RabbitMQ and MongoDB
	$(BIN)/python -m shared.testing.backends $(BIN)/pytest -n $(JOBS) --dist loadscope --no-loadscope-reorder --durations=25

tests/real/tools/node_modules/.built: tests/real/tools/package-lock.json
	@deploy/scripts/ensure-tools.sh npm
	npm ci --prefix tests/real/tools --no-audit --no-fund --ignore-scripts --silent
	npm rebuild --prefix tests/real/tools --build-from-source --silent argon2 isolated-vm sqlite3
	@touch $@

$(VENV)/tryton/.installed: tests/real/tryton.txt | $(VENV)/bin/python
	@deploy/scripts/make-venv.sh "$(PYTHON)" $(VENV)/tryton
	$(VENV)/tryton/bin/pip install --quiet --require-hashes --requirement tests/real/tryton.txt
	@touch $@

$(VENV)/asterisk/.ready: tests/lab/asterisk/get-asterisk.sh tests/lab/asterisk/slim-asterisk.sh tests/lab/asterisk/conf/modules.conf | $(VENV)/bin/python
	@tests/lab/asterisk/get-asterisk.sh $(VENV)/asterisk

asterisk-lab: $(VENV)/asterisk/.ready ## Get a real Asterisk and phones for tests/lab: unpacked from Debian's packages, 80 MB
	@deploy/scripts/ensure-tools.sh sipp

real: setup tests/real/tools/node_modules/.built $(VENV)/tryton/.installed ## Run templates against real CRMs: Directus, Tryton (builds them first, minutes)
	$(BIN)/pytest tests/real

lint: setup types imports ## Check style, types, imports and that generated files are current
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/callmesh contracts --check

types: $(VENV)/.dev ## Check types
	$(BIN)/mypy

imports: $(VENV)/.dev ## Check who imports whom
	$(BIN)/lint-imports

fmt: $(VENV)/.dev ## Format, and mend what can be mended
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

contracts: $(VENV)/.dev ## Write the generated references (docs/reference, .env.example)
	$(BIN)/callmesh contracts

bench: setup ## Measure: bus, decision, ingest to journal, entries, history of calls (twelve minutes)
	$(BIN)/python -m shared.testing.backends $(BIN)/python -m tests.bench

lock: $(VENV)/.dev ## Make the lock files again from pyproject.toml
	deploy/scripts/lock.sh $(BIN)/uv

clean: ## Remove what the targets made; the next one sets up again
	rm -rf $(VENV) tests/tools/node_modules tests/real/tools/node_modules .mypy_cache .ruff_cache .import_linter_cache dist
