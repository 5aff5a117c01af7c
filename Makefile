# What people do with a clone of witgate. Every target installs what it misses and says so.
#
#   make run     the gateway in front of two airline services, with a dozen commands to try
#   make test    all that must pass before a change goes in
#
# Needs rustup's stable Rust (1.95 or later) and, on a bare Debian, apt for a C compiler and curl.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:
.NOTPARALLEL:
.PHONY: help run release test fmt lint docs unit audit bench bench-check bench-peers wasm-target build clean-demo languages bench-growth fuzz soak conformance

# rustup installs here; a fresh shell may not have it on its PATH yet.
export PATH := $(HOME)/.cargo/bin:$(PATH)
# Where the demo listens. Anything on make's command line reaches start.sh.
export PORT ?= 8080
export TLS_PORT ?= 8443
export ADMIN_PORT ?= 9901
export EMPLOYEES_PORT ?= 9001
export FLIGHTS_PORT ?= 9002

CARGO := cargo
# The SDK's library is called `witgate`, as policies shall write it, and so is the gateway's: each
# gets a documentation tree of its own.
SDK := witgate-plugin-sdk

help: ## show this list
	@printf 'usage: make TARGET [PORT=8080 TLS_PORT=8443 ADMIN_PORT=9901 EMPLOYEES_PORT=9001 FLIGHTS_PORT=9002]\n\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## build the gateway and start the airline demo (Ctrl-C ends it)
	@exec examples/airline/start.sh

build: wasm-target ## build the release binary: target/release/witgate
	@tools/require.sh gcc
	$(CARGO) build --release --locked -p witgate

release: ## build the binary to deploy, by a profile of its own work: target/pgo/witgate
	@tools/release.sh

# Clippy first, then rustdoc: both need the dependencies' metadata only, and share it. The tests
# come last, with the dependencies' code.
test: fmt lint docs unit bench-check ## formatting, clippy, documentation, all tests, instruction counts
	@echo "make test: all passed"

fmt:
	@echo "== formatting"
	$(CARGO) fmt --all --check

lint: wasm-target
	@tools/require.sh gcc
	echo "== clippy, warnings are errors"
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

docs: wasm-target
	@tools/require.sh gcc
	echo "== documentation, warnings are errors"
	export RUSTDOCFLAGS="-D warnings"
	$(CARGO) doc --workspace --exclude $(SDK) --no-deps --locked
	$(CARGO) doc -p $(SDK) --no-deps --locked --target-dir $${CARGO_TARGET_DIR:-target}/sdk-doc

unit: wasm-target
	@tools/require.sh gcc curl
	echo "== unit, end-to-end and doc tests"
	$(CARGO) test --workspace --locked

audit: ## licences, sources and duplicates of all dependencies (cargo deny)
	@tools/cargo-tool.sh cargo-deny 0.20.2
	$(CARGO) deny --all-features --locked check bans licenses sources
	tools/no-second-crypto.sh

languages: wasm-target ## policies in eight languages: install the tools, run suite and examples in each
	@tools/require.sh gcc curl
	tools/languages.sh
	WITGATE_LANGUAGES=all $(CARGO) test --locked -p witgate --test e2e -- languages::

fuzz: ## hostile input by libFuzzer, each target for a minute (SECONDS=3600 TARGETS="path edit")
	@tools/fuzz.sh $(or $(SECONDS),60) $(TARGETS)

soak: ## load, reloads, swaps and faults for two minutes: nothing lost, nothing leaks (MINUTES=60 SEED=1)
	@tools/soak.sh $(or $(MINUTES),2) $(SEED)

conformance: ## clients, scanners and servers of others against the gateway (CHECKS="curl gRPC")
	@tools/conformance.sh $(CHECKS)

bench: wasm-target ## micro-benchmarks: hook, chain, router, reload (criterion)
	@tools/require.sh gcc
	$(CARGO) bench --locked -p witgate --bench micro

bench-check: wasm-target ## instructions of the hot paths, against benches/instructions/baseline.json
	@tools/require.sh gcc valgrind python3
	echo "== instruction counts"
	benches/instructions/check

bench-peers: build ## CPU per request beside nginx, HAProxy, Envoy, Caddy and Pingora (ARGS=--quick)
	@benches/peers/install
	python3 benches/harness/tests.py
	benches/peers/run $(ARGS)

bench-growth: build ## how cost grows with APIs, policies, plugins, keys, consumers (ARGS=--quick)
	@benches/peers/install --tools
	python3 benches/harness/tests.py
	benches/growth/run $(ARGS)

wasm-target: ## install the Rust target that policies are compiled for
	@tools/wasm-target.sh

clean-demo: ## remove what the demo made: certificate, keys, policy, state
	rm -rf target/airline
