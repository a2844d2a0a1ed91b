# Sporelet: `make demo` shows it, `make test` proves it, `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup build demo two-nodes test check format generate bench install uninstall clean

PREFIX ?= /usr/local

help: ## List what can be made
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what Sporelet is built with and runs on (idempotent)
	@tools/setup

build: setup ## Build sporectl, spored and the guest agent into dist/
	@tools/build

demo: build ## Freeze a Compose project in a microVM and resume three clones of it
	@tools/with-node node examples/hello-compose/demo.ts

two-nodes: build ## Build on one node, run on another, through a registry
	@tools/setup --with-test-tools
	@tools/with-node node examples/two-nodes/two-nodes.ts

test: build ## Run every check and test; the last line counts them
	@tools/setup --with-test-tools
	@tools/with-node node tools/run-tests.ts

check: build ## Format, lint, types, unused code, generated files, Go
	@tools/with-node pnpm run check

format: setup ## Format every file
	@tools/with-node pnpm run format

generate: setup ## Regenerate code from proto/
	@tools/with-node tools/generate

bench: build ## Measure everything next to its floor; writes out/bench.json and out/bench.md
	@tools/setup --with-bench-tools
	@tools/with-node node bench/bench.ts

install: build ## Install to PREFIX (default /usr/local)
	@tools/install "$(DESTDIR)$(PREFIX)"

uninstall: ## Remove what `make install` installed
	@rm -rf "$(DESTDIR)$(PREFIX)/lib/sporelet" "$(DESTDIR)$(PREFIX)/bin/sporectl" "$(DESTDIR)$(PREFIX)/bin/spored"

clean: ## Remove what was built (not SPORELET_HOME)
	@rm -rf dist out .turbo apps/*/dist
