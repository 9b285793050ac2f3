# Everything that a developer or CI runs; `make help` lists it. It needs a Rust
# toolchain and CPython 3.10 or newer with its shared library, and no root.

# The interpreter to link and to make .venv from.
PYTHON ?= python3
CARGO ?= cargo
# How many Python tests run side by side: most of the time, most of them wait.
JOBS ?= $(shell expr 2 '*' $$(nproc))
# Who has none left takes others' over: some take long.
SIDE_BY_SIDE := -n $(JOBS) --dist worksteal
# Which Pythons `make test-pythons` installs the wheel in.
PYTHONS ?= $(wildcard /usr/bin/python3 $(HOME)/.pyenv/versions/3.1[0-9].*/bin/python)
# What it installs: this folder, or a wheel or sdist that `make wheel` has built.
PACKAGE ?= .
# How long `make fuzz` lasts, in seconds.
FUZZ_SECONDS ?= 60
# More flags for what `make run` or `make test-python` starts.
ARGS ?=

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
VENV := $(CURDIR)/.venv
BENCH_VENV := $(CURDIR)/.venv-bench

# pyo3 must link the very interpreter that .venv is made from. A shim, or the
# python of an active virtual environment, is followed to the real one: else
# entering .venv would rebuild everything, and .venv be made from itself.
export PYO3_PYTHON := $(shell $(PYTHON) -c 'import os, sys; print(os.path.realpath(sys.executable))' 2>/dev/null)

.PHONY: build run test soak bench bench-workers bench-instructions bench-footprint bench-wheel bench-head-of-line
.PHONY: lint arch gen fuzz docs wheel clean help
.PHONY: test-wheel-again test-pythons test-container
.PHONY: debug tests-built test-rust test-python pages check-gen check-python

build: check-python ## build the server: target/release/serve
	$(CARGO) build --release

debug: check-python
	$(CARGO) build

run: build $(VENV)/has-example ## build it and serve examples/flask_distance
	VIRTUAL_ENV=$(VENV) $(TARGET)/release/serve main:app \
		--chdir examples/flask_distance --workers 4 $(ARGS)

# All that is built comes first, side by side: the release is one thread for most of
# its time. Instructions are counted there, too; other tests look at the clock, and
# nothing is built beside them.
test: ## the lints, and all tests
	$(MAKE) --no-print-directory --jobs bench-instructions tests-built
	$(MAKE) --no-print-directory test-rust test-python

tests-built: lint
	$(CARGO) test --workspace --no-run
	$(CARGO) build

bench: build $(BENCH_VENV)/has-peers ## compare with other servers; ARGS=--help
	$(CARGO) build --release --package serve-net --example fixed
	cd tests && CARGO_TARGET_DIR=$(TARGET) $(BENCH_VENV)/bin/python -m bench $(ARGS)

# Not noisy, and so a test. Skipped, with a line, where there is no valgrind.
bench-instructions: build $(VENV)/has-tests ## count a request's instructions
	cd tests && CARGO_TARGET_DIR=$(TARGET) $(VENV)/bin/python -m bench.instructions $(ARGS)

bench-footprint: build $(BENCH_VENV)/has-peers ## how soon it is there, and its memory
	cd tests && CARGO_TARGET_DIR=$(TARGET) $(BENCH_VENV)/bin/python -m bench.footprint

bench-workers: build $(BENCH_VENV)/has-peers ## compare the worker classes; ARGS=--help
	cd tests && CARGO_TARGET_DIR=$(TARGET) $(BENCH_VENV)/bin/python -m bench.workers $(ARGS)

bench-head-of-line: build $(VENV)/has-tests ## do quick requests wait behind slow ones?
	cd tests && VIRTUAL_ENV=$(VENV) SERVE_BIN=$(TARGET)/release/serve \
		$(VENV)/bin/python -m bench.head_of_line

soak: build $(VENV)/has-tests ## a crowd, and minutes of mixed load that may leak nothing; ARGS=--help
	cd tests && VIRTUAL_ENV=$(VENV) SERVE_BIN=$(TARGET)/release/serve \
		$(VENV)/bin/python -m soak $(ARGS)

bench-wheel: build wheel ## count with the wheel, too, beside the binary
	$(PYO3_PYTHON) -m venv --clear $(TARGET)/bench-wheel
	$(TARGET)/bench-wheel/bin/python -m pip install --quiet --disable-pip-version-check --no-index \
		--find-links $(TARGET)/wheels serve
	cd tests && CARGO_TARGET_DIR=$(TARGET) $(TARGET)/bench-wheel/bin/python -m bench.instructions --wheel

# nextest runs no documentation tests.
test-rust: check-python ## the Rust tests
	if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run --workspace; \
		$(CARGO) test --workspace --doc; \
	else \
		$(CARGO) test --workspace; \
	fi

test-python: debug $(VENV)/has-tests ## the Python tests, against a debug build
	VIRTUAL_ENV=$(VENV) SERVE_BIN=$(TARGET)/debug/serve \
		$(VENV)/bin/python -m pytest $(SIDE_BY_SIDE) $(ARGS)

# A virtual environment each; an unoptimised build, which finds more.
test-pythons: $(addprefix test-python-,$(subst /,-,$(PYTHONS))) ## pip install, and the Python tests, on each of PYTHONS

test-python-%:
	set -x; venv=$(TARGET)/pythons/$*; \
	$(subst -,/,$*) -m venv --clear $$venv; \
	CARGO_TARGET_DIR=$(TARGET) $$venv/bin/python -m pip install --quiet --disable-pip-version-check \
		--config-settings=build-args='--profile dev' $(PACKAGE) -r tests/requirements.txt; \
	VIRTUAL_ENV=$$venv SERVE_BIN=$$venv/bin/serve \
		$$venv/bin/python -m pytest $(SIDE_BY_SIDE) tests/wheel tests/wsgi tests/process tests/examples $(ARGS)

wheel: check-python $(VENV_MADE) ## build the wheel, and the sdist: target/wheels
	$(PIP_INSTALL) maturin
	CARGO_TARGET_DIR=$(TARGET) $(VENV)/bin/maturin build --release --sdist \
		--out $(TARGET)/wheels --interpreter $(PYO3_PYTHON)

test-wheel-again: wheel ## build the wheel again, in another folder: it must be the same
	rm -rf $(TARGET)/again
	mkdir -p $(TARGET)/again/tree
	git ls-files -z | xargs -0 cp --parents -t $(TARGET)/again/tree
	cd $(TARGET)/again/tree && CARGO_TARGET_DIR=$(TARGET)/again/target \
		$(VENV)/bin/maturin build --release --out $(TARGET)/again --interpreter $(PYO3_PYTHON)
	for again in $(TARGET)/again/serve-*.whl; do \
		cmp $(TARGET)/wheels/$${again##*/} $$again; \
		sha256sum $$again; \
	done

# Compose files only if there is a podman-compose.
test-container: $(VENV)/has-tests ## the Dockerfile's image, run by podman: needs root, debootstrap
	@for tool in podman runc debootstrap rustc; do \
		command -v $$tool >/dev/null || { echo "make test-container needs $$tool" >&2; exit 1; }; \
	done
	tests/container/images.sh
	SERVE_IMAGE=localhost/serve-test $(VENV)/bin/python -m pytest tests/container $(ARGS)

lint: check-python check-gen $(VENV)/has-tests ## formatting, clippy, ruff, licences
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(VENV)/bin/ruff check --quiet
	$(VENV)/bin/ruff format --quiet --check
	if $(CARGO) deny --version >/dev/null 2>&1; then \
		$(CARGO) deny --log-level error check bans licenses sources; \
	fi

# Part of test-python, too.
arch: $(VENV)/has-tests ## only the walls: who may depend on whom
	$(VENV)/bin/python -m pytest -q tests/arch

gen: pages ## write anew what is made from the table of settings
	cp -r $(TARGET)/gen/. .

check-gen: pages
	@cd $(TARGET)/gen && find . -type f | while read -r page; do \
		diff -u "$(CURDIR)/$$page" "$$page" \
			|| { echo "$$page is out of date: make gen" >&2; exit 1; }; \
	done

# Of the workspace, so that what it needs has the features that the tests want.
pages:
	@rm -rf $(TARGET)/gen
	@$(CARGO) build --quiet --workspace --example reference
	@$(TARGET)/debug/examples/reference $(TARGET)/gen

fuzz: ## fuzz the HTTP parser for FUZZ_SECONDS
	@$(CARGO) fuzz --version >/dev/null 2>&1 \
		|| { echo 'make fuzz needs cargo-fuzz and a nightly toolchain: cargo install cargo-fuzz' >&2; exit 1; }
	mkdir -p crates/http/fuzz/corpus/connection
	$(CARGO) +nightly fuzz run --fuzz-dir crates/http/fuzz connection \
		crates/http/fuzz/corpus/connection tests/requests/valid tests/requests/invalid \
		-- -max_total_time=$(FUZZ_SECONDS)

docs: $(VENV_MADE) ## the documentation as a site: target/site
	$(PIP_INSTALL) mkdocs
	$(VENV)/bin/mkdocs build --quiet --strict --site-dir $(TARGET)/site

clean: ## remove what was built, and what was installed
	$(CARGO) clean
	rm -rf $(VENV) $(BENCH_VENV)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' Makefile

# ---- Python

define CHECK_PYTHON
import os, sys, sysconfig
if sys.version_info < (3, 10):
    sys.exit("%s is Python %s, and serve needs 3.10 or newer: name another one, make PYTHON=/path/to/python3"
             % (sys.executable, sys.version.split()[0]))
# Where pyo3 looks, and under the name that the linker looks for.
library = os.path.join(*sysconfig.get_config_vars("LIBDIR", "LDLIBRARY"))
if not sysconfig.get_config_var("Py_ENABLE_SHARED") or not os.path.exists(library):
    sys.exit("%s has no shared library to link (%s): install it (Debian, Ubuntu: libpython3-dev; "
             "pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared), or name another one, make PYTHON=/path/to/python3"
             % (sys.executable, library))
endef
export CHECK_PYTHON

check-python:
	@command -v $(PYTHON) >/dev/null \
		|| { echo 'there is no $(PYTHON): install CPython 3.10 or newer, or make PYTHON=/path/to/python3' >&2; exit 1; }
	@$(PYTHON) -c "$$CHECK_PYTHON"

# One .venv for all. The stamp is named after the interpreter, so that another
# PYTHON makes another .venv; --clear takes the other stamps with it.
VENV_MADE := $(VENV)/made-by$(subst /,-,$(PYO3_PYTHON))
PIP_INSTALL := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
	--constraint $(CURDIR)/tests/constraints.txt

$(VENV_MADE): | check-python
	$(PYO3_PYTHON) -m venv --clear $(VENV)
	touch $@

$(VENV)/has-example: examples/flask_distance/requirements.txt $(VENV_MADE)
	$(PIP_INSTALL) -r $<
	touch $@

$(VENV)/has-tests: tests/requirements.txt tests/constraints.txt $(wildcard examples/*/requirements.txt) $(VENV_MADE)
	$(PIP_INSTALL) -r $<
	touch $@

# One by one: a peer that does not install here is left out, and the benchmark says so.
$(BENCH_VENV)/has-peers: tests/bench/requirements.txt | check-python
	$(PYO3_PYTHON) -m venv --clear $(BENCH_VENV)
	grep -v '^#' $< | while read -r peer; do \
		$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check "$$peer" \
			|| echo "$$peer does not install here" >&2; \
	done
	touch $@
