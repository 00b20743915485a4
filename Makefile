# `make demo` and `make test` go from a fresh clone to their result by themselves (Python 3.11 or newer).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
export HF_HUB_OFFLINE := 1

.PHONY: demo test test-slow lint corpus-report clean

demo: $(VENV)/light
	@mkdir -p demo-output
	$(BIN)/policy-tagger predict data/examples/forum.txt -o demo-output/forum.jsonl
	$(BIN)/policy-tagger show demo-output/forum.jsonl
	@echo "The full output, with probabilities: demo-output/forum.jsonl"

test: $(VENV)/train lint
	$(BIN)/pytest

test-slow: $(VENV)/train
	$(BIN)/pytest -m slow

lint: $(VENV)/train
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

corpus-report: $(VENV)/benchmarks
	$(BIN)/python benchmarks/corpus_report.py

clean:
	rm -rf $(VENV) demo-output build *.egg-info

$(VENV)/light: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	@touch $@

$(VENV)/train: $(VENV)/light
	$(PIP) --editable '.[train,test]'
	@touch $@

$(VENV)/benchmarks: $(VENV)/train
	$(PIP) --editable '.[train,benchmarks]'
	@touch $@
