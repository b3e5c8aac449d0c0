# Each target makes what it needs: an environment of the Python chosen, made anew when it is missing, of
# another Python or out of date.
SUPPORTED := 3.13 3.12 3.11
PYENV_ROOT ?= $(HOME)/.pyenv
version_of = $(shell $(1) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
# The command itself if it runs a Python of these versions, else nothing.
usable = $(if $(filter $(2),$(call version_of,$(1))),$(1))

# The first that is supported; `make test PYTHON=python3.12` takes another.
DEFAULT := $(or $(call usable,python3,$(SUPPORTED)),$(call usable,python3.13,3.13),$(call usable,python3.12,3.12),$(call usable,python3.11,3.11))
PYTHON ?= $(DEFAULT)
VERSION := $(call version_of,$(PYTHON))
ifeq ($(strip $(PYTHON)),)
$(error memorax needs Python 3.11, 3.12 or 3.13; neither python3 nor python3.13, python3.12 or python3.11 is one)
endif
ifeq ($(filter $(SUPPORTED),$(VERSION)),)
$(error memorax needs Python 3.11, 3.12 or 3.13, $(PYTHON) $(if $(VERSION),is $(VERSION),cannot be run))
endif

# Each version has an environment of its own, and .venv is that of the default.
VENV := $(if $(filter $(VERSION),$(call version_of,$(DEFAULT))),.venv,.venv-$(VERSION))
BIN := $(VENV)/bin
# The version is in their names for when the default becomes another.
INSTALLED := $(VENV)/.installed-$(VERSION)
INSTALLED_FOR_SHORT_TESTS := $(VENV)/.installed-for-short-tests-$(VERSION)
INSTALLED_FOR_DEMO := $(VENV)/.installed-for-demo-$(VERSION)

.PHONY: demo test test-exhaustive test-short test-pythons test-other-pythons lint docs audit bench learn soak install python

install: python $(INSTALLED)

python:
	@echo "Python $(VERSION): $(PYTHON), installed in $(VENV)"

# An environment that uv has made has no pip.
define install
@test "$$($(BIN)/python -c 'import pip, sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = $(VERSION) || $(PYTHON) -m venv --clear $(VENV)
$(BIN)/python -m pip install $(VERBOSITY) --no-compile --disable-pip-version-check --constraint constraints.txt --editable '.[$(EXTRAS)]'
@# On all cores, which takes pip one, and half of its time.
$(if $(COMPILED),-@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib)
@touch $@
endef

VERBOSITY := --quiet
COMPILED := yes

$(INSTALLED): EXTRAS := all-envs,dev,docs,mlflow,onnx,optuna,oracles,wandb
$(INSTALLED): pyproject.toml constraints.txt
	$(install)

$(INSTALLED_FOR_SHORT_TESTS): EXTRAS := dev,envs,oracles
$(INSTALLED_FOR_SHORT_TESTS): pyproject.toml constraints.txt
	$(install)

# The fewest packages, and Python compiles only those modules that are imported.
$(INSTALLED_FOR_DEMO): EXTRAS := envs
$(INSTALLED_FOR_DEMO): VERBOSITY :=
$(INSTALLED_FOR_DEMO): COMPILED :=
$(INSTALLED_FOR_DEMO): pyproject.toml constraints.txt
	@echo "installing memorax and Gymnax, 800 MB; later demos start at once"
	$(install)

# Train a GRU on a task that needs memory, beside the same network without memory.
demo: python $(or $(firstword $(wildcard $(INSTALLED) $(INSTALLED_FOR_SHORT_TESTS))),$(INSTALLED_FOR_DEMO))
	@$(BIN)/memorax train

test: python $(INSTALLED)
	@$(BIN)/pytest -n auto --dist loadgroup -m 'not exhaustive'

test-exhaustive: python $(INSTALLED)
	@$(BIN)/pytest -n auto --dist loadgroup -m exhaustive

# Some of each: the law of cuts for a model of every kind, an op, networks, algorithms, a suite of
# environments, and the demo's first seconds.
LAWS := cut-gru] or cut-lru] or cut-mamba2] or cut-mlstm] or cut-self_attention]
SHORT := tests/test_laws.py tests/ops/test_linear_recurrence.py tests/networks/test_network.py \
	tests/algorithms/test_every_algorithm.py tests/algorithms/test_returns.py tests/environments/test_gymnax.py
test-short: python $(or $(wildcard $(INSTALLED)),$(INSTALLED_FOR_SHORT_TESTS))
	@$(BIN)/pytest -n auto --dist loadgroup -m 'not exhaustive' -k 'not test_laws or float32 and ($(LAWS))' $(SHORT)
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
		$(BIN)/memorax train --total-steps 8192 --no-memoryless-twin --run-folder "$$folder/run"

# The short tests on every supported Python that this machine has, on the PATH or kept by pyenv.
test-pythons: VERSIONS := $(SUPPORTED)
test-other-pythons: VERSIONS := $(filter-out $(VERSION),$(SUPPORTED))
found = $(firstword $(foreach python,python3 python$(1) $(wildcard $(PYENV_ROOT)/versions/$(1).*/bin/python$(1)),$(call usable,$(python),$(1))))
test-pythons test-other-pythons:
	@pythons="$(strip $(foreach version,$(VERSIONS),$(call found,$(version))))"; failed=; \
	echo "found: $${pythons:-none of $(VERSIONS)}"; \
	for python in $$pythons; do $(MAKE) --no-print-directory test-short PYTHON=$$python || failed="$$failed $$python"; done; \
	test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

lint: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@$(BIN)/lint-imports

# The pages of docs/ as a site in site/.
docs: $(INSTALLED)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# What is known against the versions that are pinned; asks the package index for its advisories, and
# fails where it has none to give.
audit: $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt 'pip-audit>=2.10'
	@$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict

bench: $(INSTALLED)
	@$(BIN)/python benchmarks/training.py --rivals plain

# Train every algorithm with three memories for five million steps each; takes hours, and skips what
# docs/results/soak.json has.
soak: $(INSTALLED)
	@$(BIN)/python benchmarks/soak.py --output docs/results

# Train every algorithm, head and architecture; takes hours.
learn: $(INSTALLED)
	@$(BIN)/python benchmarks/learning.py --output runs/learning
