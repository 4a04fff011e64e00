# make run: set up, then train the example. make test: set up, then run the tests.
# make lint: set up, then check style, types and imports.
# make docs: write docs/reference and docs/README.md from the code.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test lint docs install install-test install-lint
.NOTPARALLEL: # two installations into one environment would collide

# Said before the run, for a run that is stopped, and again under the commands that it prints.
GO_ON := @echo 'to put saecore on the PATH of your shell: source $(BIN)/activate'

run: install
	$(GO_ON)
	$(BIN)/saecore run experiments/topk.toml
	$(GO_ON)

test: install-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -n auto --dist loadfile

lint: install-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy --strict

docs: install
	$(BIN)/python docs/generate.py

# Each installs saecore with an extra of pyproject.toml, unless that is done. The stamp has a hash of
# pyproject.toml and constraints.txt, then the extras that were installed with them.
LIBRARIES := saecore and its libraries (2.2 GB with the CPU build of PyTorch, several GB more with CUDA)
install: EXTRA :=
install: WHAT := $(LIBRARIES)
install-test: EXTRA := test
install-test: WHAT := $(LIBRARIES), pytest and Triton (1.1 GB)
install-lint: EXTRA := lint
install-lint: WHAT := $(LIBRARIES), linters (0.1 GB)

install install-test install-lint:
	@hash=$$(cat pyproject.toml constraints.txt | $(PYTHON) -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())') || exit 1; \
	old= extras=; read -r old extras 2>/dev/null < $(STAMP); \
	case "$$old $$extras" in "$$hash "*"$(EXTRA)"*) exit 0;; "$$hash "*) ;; *) extras=;; esac; \
	echo 'installing what $(VENV) lacks: $(WHAT)'; \
	$(PYTHON) -m venv $(VENV) && \
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.$(if $(EXTRA),[$(EXTRA)])' && \
	echo "$$hash $$extras $(EXTRA)" > $(STAMP)
