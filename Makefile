# Each target makes what it needs: .venv is created and filled when it is missing or out of date.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test test-exhaustive lint docs bench learn install

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "memorax needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all-envs,dev,docs,mlflow,onnx,optuna,wandb]'
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

bench: $(INSTALLED)
	@$(BIN)/python benchmarks/training.py

# Train every algorithm, head and architecture; takes hours.
learn: $(INSTALLED)
	@$(BIN)/python benchmarks/learning.py --output runs/learning
