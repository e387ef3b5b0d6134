# HashiStack Lab. `make help` lists the commands; each works from a fresh clone.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The system's tools that only root usually has in its path (ip, nft).
export PATH := $(PATH):/usr/sbin:/sbin
PYTHON ?= python3
BIN := .venv/bin
PLAYBOOK := $(BIN)/ansible-playbook
# Which machines: containers (the default), vagrant, terraform, or a path of your own.
INVENTORY ?= containers
INVENTORY_PATH := $(if $(wildcard inventories/$(INVENTORY)),inventories/$(INVENTORY),$(INVENTORY))
# ADOPT=1 makes a lab this clone's that a clone made which was moved or restored from a copy, or removes one whose is gone.
ADOPTING := $(if $(ADOPT),-e lab_adopt=true)
# More for ansible-playbook, such as ARGS='--limit backend-1 -v'.
ARGS ?=

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: venv
venv:
	@PYTHON=$(PYTHON) tools/venv.sh

.PHONY: prepare
prepare: venv ## Install and build what the lab needs on this computer (kept in ~/.cache/hashistack-lab)
	@$(BIN)/python -m tools.prepare

.PHONY: up
up: prepare ## Bring the whole lab up, or put right what differs
	@$(PLAYBOOK) -i $(INVENTORY_PATH) site.yml $(ADOPTING) $(ARGS)
	@$(BIN)/python -m tools.status -i $(INVENTORY_PATH) --patience 15

.PHONY: status
status: venv ## Show the lab's state; fails if anything is unhealthy
	@$(BIN)/python -m tools.status -i $(INVENTORY_PATH)

.PHONY: down
down: venv ## Remove the lab; KEEP=1 only stops its machines and keeps their data
	@$(PLAYBOOK) -i $(INVENTORY_PATH) playbooks/down.yml -e keep=$(if $(KEEP),true,false) $(ADOPTING) $(ARGS)

.PHONY: bench
bench: prepare ## Measure the times and the memory of a lab of its own; MACHINES=25 for a large one
	@$(BIN)/python -m tools.bench $(if $(MACHINES),--machines $(MACHINES))

.PHONY: failures
failures: prepare ## Break a lab of its own while a client uses it, and count; FAULT=name RUNS=1 KEEP=1
	@$(BIN)/python -m tools.failures $(FAULT:%=--fault %) $(if $(RUNS),--runs $(RUNS)) $(if $(KEEP),--keep) \
		$(if $(filter-out containers,$(INVENTORY)),--inventory $(INVENTORY_PATH)) $(if $(BREAK),--break $(BREAK)) $(if $(PACE),--pace $(PACE))

.PHONY: collection
collection: venv ## Build the roles and modules as a collection, for playbooks of your own
	@$(BIN)/ansible-galaxy collection build --force --output-path dist

.PHONY: prepare-tests
prepare-tests: venv
	@$(BIN)/python -m tools.prepare packages --tests --set vagrant
	@$(VM) terraform validate

.PHONY: lint
lint: venv ## Check the style of everything
	@$(BIN)/python -m tools.parts lint

.PHONY: unit
unit: prepare-tests ## Run the tests that need no machine
	@$(BIN)/python -m tools.parts unit application

.PHONY: acceptance
acceptance: prepare prepare-tests ## Bring up a lab of its own, try what it promises, let its parts fail, and remove it
	@$(BIN)/python -m tools.parts acceptance variants

.PHONY: molecule
molecule: prepare ## Install each role alone, on machines of its own, and test it
	@$(BIN)/python -m tools.parts molecule

.PHONY: mutants
mutants: prepare ## Break each role once, and see its scenario turn red
	@$(BIN)/python -m tools.mutants

.PHONY: killed
killed: prepare prepare-tests ## Kill the first run at twenty moments, and see each end green on the next
	@env -u LAB_NAME $(BIN)/python -m pytest -v -s tests/failure/test_interrupted.py --every-moment

.PHONY: test
test: prepare prepare-tests ## Run the tests: unit, lint, the roles alone on Debian 12, acceptance
	@$(BIN)/python -m tools.parts unit application lint molecule variants acceptance

.PHONY: test-all
test-all: prepare prepare-tests ## Run all tests: those of `make test`, and the roles alone on Debian 13
	@$(BIN)/python -m tools.prepare base --release trixie
	@$(BIN)/python -m tools.parts unit application lint molecule variants molecule-trixie acceptance

-include vm.mk
