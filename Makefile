# SPDX-License-Identifier: BSD-2-Clause
# `make` alone prints the menu, which is read from the comments behind the targets.

PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
WHEEL_LIMIT := 4194304
# Debian 12's own kernels: the stable one, and that of its backports.
KERNELS := 6.1 6.12
# Those of containers that meet a kernel or a runtime: what only reads files is the same on all.
KERNEL_TESTS := $(patsubst %,tests/containers/test_%.py,kernel nested hierarchy containerd podman) \
    $(patsubst %,src/eunomia/trackers/%,process container) tests/processes/test_kernel.py \
    $(patsubst %,tests/cli/test_%.py,containers tree)
# But for those about great numbers, which take five minutes each where everything is emulated.
KERNEL_TESTS += $(patsubst %,--deselect=%,\
    src/eunomia/trackers/container/test_container.py::test_thirty_at_the_same_time_are_all_shown_in_full \
    tests/processes/test_kernel.py::test_thousands_of_short_lives_leave_the_table_as_it_was_and_each_row_its_own)

# What eunomia is built from, and so what it is built again for.
PROBES := $(shell find src -name '*.bpf.c')
COMPILED := $(shell find src/eunomia/bpf src/eunomia/native -type f -not -name "*.pyc" 2>/dev/null) $(PROBES)

MAKEFLAGS += --no-builtin-rules
export PYTHON
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help build run test test-k8s test-image test-trees test-kernels fuzz fuzz-uploads fuzz-native fuzz-api api lint bench wheel clean deps test-deps bench-deps

help: ## this menu
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

build: deps $(VENV)/.built $(VENV)/.installed $(VENV)/.bytecode ## build .venv/bin/eunomia; as root it installs what the machine lacks

run: ARGS ?= process
run: build ## show what containers do until Ctrl-C (root): make run ARGS="opensnoop -o json"
	@exec $(BIN)/eunomia run $(ARGS)

test: test-deps lint ## check and test everything (root, for probes and containers)
	$(BIN)/python -m pytest $(ARGS)

test-k8s: test-deps build $(VENV)/.dev ## test on a real Kubernetes (root): KUBERNETES_BIN_DIR=/path make test-k8s
	$(BIN)/python -m pytest tests/kubernetes/real $(ARGS)

test-image: wheel ## build the OCI image with a Docker of its own, and run its server (root); its base is made by debootstrap
	$(BIN)/python -m pytest tests/server/real_image.py $(ARGS)

test-trees: build $(VENV)/.dev ## compare files of real runtimes with their own words: make test-trees TREES=/path
	TREES=$(TREES) $(BIN)/python -m pytest tests/containers/real_trees.py $(ARGS)

test-kernels: build $(VENV)/.dev ## test containers on stock kernels in virtual machines (root), a quarter of an hour each
	@for kernel in $(KERNELS); do \
	    tools/try_kernel.sh $$kernel $(or $(ARGS),$(KERNEL_TESTS)) || failed="$$failed $$kernel"; \
	done; [ -z "$$failed" ] || { echo "eunomia: tests failed on$$failed" >&2; exit 1; }

fuzz: build $(VENV)/.dev ## break the inputs of all readers until Ctrl-C: make fuzz ARGS="--seed 7 --rounds 1000 btf bolt"
	$(BIN)/python -m tests.fuzz --keep $(ARGS)

fuzz-uploads: build $(VENV)/.dev ## read 10,000 broken objects as uploaded ones are, and count what is left: ARGS="--seed 7 --objects 500"
	$(BIN)/python -m tests.fuzz.uploads $(ARGS)

fuzz-native: build $(VENV)/.dev ## break the inputs of the binding in C, under sanitizers, until Ctrl-C: make fuzz-native ARGS="--seed 7"
	$(BIN)/python -m tests.fuzz.native $(ARGS)

fuzz-api: build $(VENV)/.dev ## call all that the API describes with schemathesis (root): make fuzz-api ARGS="-n 50 --seed 7"
	@$(PIP) install 'schemathesis>=4'
	$(BIN)/python -m tests.server.fuzz_api $(ARGS)

api: build ## write docs/api.md from the API's description
	$(BIN)/python tools/gen_api.py >docs/api.md.new && mv docs/api.md.new docs/api.md

lint: build $(VENV)/.dev ## ruff, mypy, and every C warning an error
	$(BIN)/ruff check .
	$(BIN)/mypy
	gcc -fsyntax-only -std=gnu11 -O2 -Wall -Wextra -Werror src/eunomia/native/*.c

bench: bench-deps build ## measure Eunomia beside its C twins (root), some minutes
	$(BIN)/python bench/run.py $(ARGS)

wheel: build $(VENV)/.dev ## a wheel in dist/ that needs no compiler, with libbpf inside
	@rm -rf build dist
	@$(PIP) wheel --no-deps --no-build-isolation -w build/wheel .
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/auditwheel repair --strip -w dist build/wheel/*.whl >build/auditwheel.log 2>&1 \
	    || { cat build/auditwheel.log; exit 1; }
	@size=$$(stat -c %s dist/*.whl); echo "dist/$$(ls dist): $$size bytes, $(WHEEL_LIMIT) allowed"; \
	    [ $$size -le $(WHEEL_LIMIT) ]

clean: ## remove everything that was built, .venv too
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
	find src \( -name '*.bpf.o' -o -name '*.so' \) -delete
	find src tests bench tools -name __pycache__ -prune -exec rm -rf {} +

deps: ## install the Debian packages that a build needs (root)
	@tools/install_needs.sh build
test-deps:
	@tools/install_needs.sh test
bench-deps:
	@tools/install_needs.sh bench

# `run` and `test` must not find half a virtual environment: each stamp is written when its step is done.
$(VENV)/.made: | deps
	@echo "eunomia: making $(VENV) with $(PYTHON)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "eunomia: Python 3.11 or later is needed; name one: make PYTHON=/path/to/python3")'
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.requires: pyproject.toml $(VENV)/.made
	@echo "eunomia: building, and installing the Python packages it needs into $(VENV)"
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	    | $(PIP) install -r /dev/stdin
	@touch $@

# Before pip, which wraps a compiler's words in thirty lines of its own.
$(VENV)/.built: setup.py $(VENV)/.requires $(COMPILED)
	@$(BIN)/python setup.py -q build_probes build_ext --inplace
	@touch $@

$(VENV)/.installed: pyproject.toml setup.py $(VENV)/.requires | $(VENV)/.built
	@$(PIP) install --no-build-isolation -e .
	@touch $@

# Compiled ahead, for those who have Python write no bytecode: without it a start takes twice as long.
$(VENV)/.bytecode: $(VENV)/.installed $(shell find src -name '*.py')
	@$(BIN)/python -m compileall -q src
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.installed
	@echo "eunomia: installing the tools for tests, checks and wheels"
	@$(PIP) install --group dev
	@touch $@
