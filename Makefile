# Each target makes what it needs: .venv is created and filled when it is missing or out of date.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test test-exhaustive lint docs audit bench learn soak install

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "memorax needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt --editable '.[all-envs,dev,docs,mlflow,onnx,optuna,oracles,wandb]'
	@# On all cores, which takes pip one, and half of its time.
	-@$(BIN)/python -m compileall -qq -j 0 .venv/lib
	@touch $@

# Train a GRU on a task that needs memory, beside the same network without memory.
demo: $(INSTALLED)
	@$(BIN)/memorax train

test: $(INSTALLED)
	@$(BIN)/pytest -n auto --dist loadgroup -m 'not exhaustive'

test-exhaustive: $(INSTALLED)
	@$(BIN)/pytest -n auto --dist loadgroup -m exhaustive

lint: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
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
	@$(BIN)/python benchmarks/training.py

# Train every algorithm with three memories for five million steps each; takes hours, and skips what
# docs/results/soak.json has.
soak: $(INSTALLED)
	@$(BIN)/python benchmarks/soak.py --output docs/results

# Train every algorithm, head and architecture; takes hours.
learn: $(INSTALLED)
	@$(BIN)/python benchmarks/learning.py --output runs/learning
