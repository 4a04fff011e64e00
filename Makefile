# make run: set up, then train the example. make test: set up, then run the tests.
# make docs: write docs/reference and docs/README.md from the code.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test lint docs install

run: install
	$(BIN)/saecore run experiments/topk.toml

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -n auto --dist loadfile

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy --strict

docs: install
	$(BIN)/python docs/generate.py

# Installs only when pyproject.toml or constraints.txt have another content than at the last time.
install:
	@want=$$(cat pyproject.toml constraints.txt | $(PYTHON) -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'); \
	if [ "$$want" != "$$(cat $(STAMP) 2>/dev/null)" ]; then \
	  $(PYTHON) -m venv $(VENV) && \
	  $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]' && \
	  echo "$$want" > $(STAMP); \
	fi
