# Everything that a person or CI calls. `make` alone lists it.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
CARGO ?= cargo
CRDS := daemonset/crds/kosmos.io.yaml
PROGRAMS := $(or $(CARGO_TARGET_DIR),target)/release

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: build ## three clusters on this machine: build them, join them, measure them, remove them
	@$(PROGRAMS)/kosmosctl demo

.PHONY: build
build: tools ## build the programs that ship
	@echo "building the programs (the first time takes some minutes)"
	@$(CARGO) build --release --bins

.PHONY: test
test: tools kubernetes ## every test
	@build/test

.PHONY: check
check: tools check-tools kubernetes ## formatting, lints, docs, generated files, licences, orphan files
	@build/check

.PHONY: generate
generate: kubernetes ## write the files that are made from the types
	@$(CARGO) run --quiet -p api --example crds > $(CRDS)
	@build/manifests

.PHONY: bench
bench: tools ## the figures of the pure crates, of netlink and of the agent
	@$(CARGO) bench -p network-plan -p netlink -p agent

.PHONY: drill
drill: build ## faults, outages and vandals in full rounds, packet by packet: takes hours, `--list` and `--only` choose
	@$(PROGRAMS)/clusterlink-drill $(DRILL)

.PHONY: image
image: tools ## one small image with all programs, without a container engine
	@build/image

.PHONY: kubernetes
kubernetes: ## build the Kubernetes that the tests run against, once, into a cache
	@build/kubernetes

.PHONY: tools
tools: ## install what building and testing need, only what is missing
	@build/install-tools

.PHONY: check-tools
check-tools:
	@build/install-tools check
