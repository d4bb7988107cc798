# Two commands: `make run` does the main job on a fresh clone, `make test` runs the tests.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
TORCH := torch==2.13.0
RUN_DIR ?= runs/quick
DEMO_DIR ?= runs/train/demo
WORKERS ?= 2
DURATIONS ?= 20

.PHONY: run train-demo study test test-slow check format lint types figures clean

run: $(VENV)/.run
	$(BIN)/psplit-eval run --model smollm2-135m --modes normal,high --suite quick --out $(RUN_DIR)

# From nothing to a model with two modes, on a CPU: warm-up, training, evaluation with its report.
train-demo: $(VENV)/.train
	OMP_NUM_THREADS=1 $(BIN)/psplit-train run configs/demo.yaml --out $(DEMO_DIR)

# Hours: all trainings of a study that have no record yet, and its page (docs/experiments).
study: $(VENV)/.train
	OMP_NUM_THREADS=1 $(BIN)/python -m experiments experiments/sums.yaml

# Processes of one thread each: more threads would only take turns. `worksteal` keeps the tests of
# a file together, as they share models and runs, until one process has nothing left to do.
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist worksteal --durations $(DURATIONS)

test-slow: $(VENV)/.dev
	$(BIN)/pytest -m slow

check: lint types test

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# torch first and by its exact version: an open requirement would fetch the newest CUDA build.
# On a machine without a GPU, have pip find the CPU wheel (TORCH="torch==2.13.0+cpu", say).
$(VENV)/.torch: | $(VENV)/bin/python
	$(BIN)/pip install -q $(TORCH)
	touch $@

$(VENV)/.run: $(VENV)/.torch pyproject.toml constraints.txt
	$(BIN)/pip install -q -c constraints.txt -e '.[hf,semantic]'
	touch $@

$(VENV)/.train: $(VENV)/.torch pyproject.toml constraints.txt
	$(BIN)/pip install -q -c constraints.txt -e '.[hf,semantic,train]'
	touch $@ $(VENV)/.run

$(VENV)/.dev: $(VENV)/.torch pyproject.toml constraints.txt
	$(BIN)/pip install -q -c constraints.txt -e '.[hf,semantic,train,dev]'
	touch $@ $(VENV)/.train $(VENV)/.run

figures: run
	$(BIN)/python benchmarks/gallery.py $(RUN_DIR)

clean:
	rm -rf $(VENV) build dist
