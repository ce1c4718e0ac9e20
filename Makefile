# `make help` lists the targets. Each does its own set-up and says what is missing.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CPU := $(shell uname -m)
CARGO_OUT := $(abspath $(or $(CARGO_TARGET_DIR),target))
# Where `make build` leaves the two binaries, whatever the target directory is.
DIST := $(CURDIR)/target/dist
VENV := $(CURDIR)/target/test-venv
SKIPPED := $(CURDIR)/target/skipped-tests
SCRIPTS := .ci/run .ci/start-docker images/build-local.sh

# musl where it is installed with a C compiler for it, otherwise glibc linked statically: both give
# static-pie binaries. The explicit --target keeps the flags away from build scripts and macros.
MUSL := $(CPU)-unknown-linux-musl
HAVE_MUSL := $(shell rustup target list --installed 2>/dev/null | grep -qx $(MUSL) && command -v musl-gcc)
TRIPLE ?= $(if $(HAVE_MUSL),$(MUSL),$(CPU)-unknown-linux-gnu)
STATIC := RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --release --target $(TRIPLE)
STATIC_OUT := $(CARGO_OUT)/$(TRIPLE)/release

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: need-cargo
need-cargo:
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust 1.95 or newer" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "cc is missing: install a C compiler (Debian: gcc libc6-dev)" >&2; exit 1; }

.PHONY: build
build: need-cargo ## static, stripped binaries in target/dist
	@$(STATIC) -p workspace-agent -p workspace-proxy
	@install -D -t $(DIST) $(STATIC_OUT)/workspace-agent $(STATIC_OUT)/workspace-proxy
	@ls -l $(DIST)/workspace-agent $(DIST)/workspace-proxy | awk '{ printf "%s  %.1f MiB\n", $$NF, $$5 / 1048576 }'

.PHONY: demo
demo: build ## the main job on real processes: exec, whitelist, credentials, isolation, sync
	@$(STATIC) -p workspace-tests --bin workspace-demo
	@install -D -t $(DIST) $(STATIC_OUT)/workspace-demo
	@WORKSPACE_BIN_DIR=$(DIST) $(DIST)/workspace-demo

.PHONY: test
test: build test-deps ## all tests; those whose tool is absent are listed as skipped
	@: >$(SKIPPED)
	@status=0; \
	RUST_LIB_BACKTRACE=0 WORKSPACE_BIN_DIR=$(DIST) WORKSPACE_TESTS_VENV=$(VENV) WORKSPACE_TESTS_SKIPPED=$(SKIPPED) \
		cargo test --locked --workspace --no-fail-fast 2>&1 | tee $(CURDIR)/target/test.log || status=$$?; \
	if [ -s $(SKIPPED) ]; then \
		echo; echo "skipped on this machine:"; sort $(SKIPPED); \
	fi; \
	skipped=$$(wc -l <$(SKIPPED)); \
	awk -v skipped=$$skipped '/^test result:/ { passed += $$4; failed += $$6 } \
		END { printf "\n%d passed, %d failed, %d skipped\n", passed - skipped, failed, skipped }' target/test.log; \
	exit $$status

# The foreign peers of the tests. Without them the tests that want them are skipped by name; where
# everything is required, a failure to get them is a failure.
.PHONY: test-deps
test-deps: $(VENV)/.installed

$(VENV)/.installed: tests/peers/requirements.txt
	@mkdir -p $(dir $(VENV))
	@if python3 -m venv --clear $(VENV) && $(VENV)/bin/pip install --quiet --disable-pip-version-check -r $<; \
	then touch $@; \
	elif [ "$${WORKSPACE_TESTS_REQUIRE_ALL:-}" = 1 ]; then \
		echo "the Python packages of the tests could not be installed" >&2; exit 1; \
	else \
		echo "no Python packages for the tests (Debian: python3-venv; a package index): their tests will be skipped" >&2; \
	fi

.PHONY: bench
bench: build test-deps ## figures beside their floors, peers and targets; ONLY="exec bulk" for some
	@cargo build --locked --release -p workspace-tests --bin workspace-bench
	@WORKSPACE_BIN_DIR=$(DIST) WORKSPACE_TESTS_VENV=$(VENV) $(CARGO_OUT)/release/workspace-bench $(ONLY)

.PHONY: image
image: build ## both container images, without a registry
	@images/build-local.sh

.PHONY: lint
lint: need-cargo ## formatting, clippy, rustdoc, shellcheck, hadolint
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet
	@if command -v shellcheck >/dev/null; then shellcheck $(SCRIPTS); \
		else echo "shellcheck is not installed: scripts not checked (Debian: apt-get install shellcheck)" >&2; fi
	@if [ -x $(VENV)/bin/hadolint ]; then $(VENV)/bin/hadolint images/Dockerfile; \
		else echo "hadolint is not installed: Dockerfile not checked (make test-deps brings it)" >&2; fi

.PHONY: clean
clean: ## remove everything that was built
	cargo clean
	rm -rf target
