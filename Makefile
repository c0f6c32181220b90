# One command for each thing that one does here; each sets up what it needs. See `make help`.
SHELL := /bin/sh
TIER  ?= growth
PY    := .venv/bin/python
# `make test` counts its time from here, what it sets up first included.
export UPTIER_STARTED := $(shell date +%s)
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Half of each start of Ansible and Molecule is byte-code that was not kept.
unexport PYTHONDONTWRITEBYTECODE
# Molecule's own notes lie with the clone: below the home directory, two clones of one name would share them.
MOLECULE = MOLECULE_EPHEMERAL_DIRECTORY=$(CURDIR)/.cache/molecule/$(S) \
  MOLECULE_ANSIBLE_ARGS_STRICT_MODE=1 MOLECULE_COMMAND_BORDERS=false molecule

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-down check test test-full lint unit sanity reference docs molecule soak bench-postgresql bench-redis bench-backup clean clean-all clean-engine

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  TIER=startup or growth (demo); S=<scenario> [KEEP=1] [STEP=verify] (molecule)"

setup: ## the tools in .venv; all others do this first
	@scripts/bootstrap

demo: setup ## a whole platform on this machine, with a page to open
	@$(PY) scripts/demo.py up --tier $(TIER)

demo-down: setup ## remove what `make demo` made (TIER= one tier only)
	@$(PY) scripts/demo.py down $(if $(filter command line environment,$(origin TIER)),--tier $(TIER))

check: setup ## lint, unit tests, syntax, documentation: the fast half
	@$(PY) scripts/run_tests.py check

test: setup ## everything: checks and all Molecule scenarios
	@$(PY) scripts/run_tests.py test

test-full: setup ## what a release needs: failures repeated, check mode and idempotence everywhere, both versions of Ansible
	@UPTIER_FULL=1 $(PY) scripts/run_tests.py test

lint: setup ## ansible-lint, yamllint, ruff
	@$(PY) scripts/run_tests.py lint

unit: setup ## unit tests
	@$(PY) scripts/run_tests.py unit

sanity: setup ## ansible-test sanity and the checks of the Galaxy importer
	@$(PY) scripts/run_tests.py package

reference: setup ## write what is generated: READMEs of roles, docs/reference, descriptions of filters
	@$(PY) scripts/document_filters.py && $(PY) scripts/reference.py

docs: setup ## build the documentation
	@$(PY) scripts/run_tests.py docs

molecule: setup ## one scenario: S=role_redis, KEEP=1 keeps its hosts, STEP=verify runs one step
	@test -n "$(S)" || { echo "molecule: name a scenario: make molecule S=$$(ls molecule | grep -m1 _)" >&2; exit 2; }
	@$(PY) scripts/engine.py up && $(PY) scripts/images.py && $(PY) scripts/inventory.py
	@$(MOLECULE) $(if $(STEP),$(STEP) -s $(S),test -s $(S) $(if $(KEEP),--destroy=never))

soak: setup ## four rounds of every failure of the database on a growth platform (about 45 minutes)
	@PYTEST_ADDOPTS='-m soak' UPTIER_ROUNDS=$${UPTIER_ROUNDS:-4} $(PY) scripts/run_tests.py ops_failover

bench-postgresql: setup ## PostgreSQL's settings compared by pgbench, twenty minutes; QUICK=1 five; RELEASE=13 in a container of Debian 13
	@$(PY) scripts/bench_postgresql.py $(if $(QUICK),--quick) $(if $(RELEASE),--release=$(RELEASE))

bench-redis: setup ## slots moved by redis_cluster and by redis-cli, two minutes
	@.venv/bin/pytest -q -s -p no:cacheprovider tests/unit/plugins/module_utils/redis/bench_reshape.py

bench-backup: setup ## what a proof of a backup of 1 GB costs beside a plain restore; QUICK=1 150 MB
	@$(PY) scripts/bench_backup.py $(if $(QUICK),--quick)

clean: setup ## remove all test hosts and everything that was built
	@$(PY) scripts/lab.py down --all
	@rm -rf build .cache/sanity* .cache/package .cache/inventories .cache/molecule .cache/tmp .cache/entered .cache/bytecode .pytest_cache .ruff_cache .hypothesis .ansible

clean-all: clean ## also the images, the package cache and .venv
	@$(PY) scripts/images.py --remove && docker volume rm -f uptier-apt-cache >/dev/null
	@rm -rf .venv .cache/venv-latest .cache/collections

clean-engine: setup ## stop the Docker engine, if this project started it
	@$(PY) scripts/engine.py down
