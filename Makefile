# Two commands are enough on a fresh clone: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PROCESSES ?= 2
# The slow tests lie side by side: a process that has done its share takes some of another's.
SHARED := -n $(PROCESSES) --dist worksteal
RUN := $(BIN)/lightning-qsgd

.DEFAULT_GOAL := help
.PHONY: help install demo test coverage check lint types package pictures docs ecosystem audit test-lowest test-python bench bench-layer bench-attention bench-llm clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 18

install: $(STAMP) ## Set up .venv with the exact versions of constraints.txt

# `--group` needs a newer pip than Python 3.11 brings along.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[all]" --group dev
	touch $@

demo: $(STAMP) ## Compare five optimizers on real digits, and show the verdict
	$(RUN) compare --config demo

test: $(STAMP) ## Run all tests
	$(BIN)/python -m pytest $(SHARED)

coverage: $(STAMP) ## Run all tests and tell which lines and branches of the package they miss
	$(BIN)/python -m pytest $(SHARED) --cov=lightning_qsgd \
		--cov-report=term-missing:skip-covered

lint: $(STAMP) ## Check format and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP) ## Check types
	$(BIN)/mypy

check: lint types test ## Everything that CI checks

bench: $(STAMP) ## Measure the cost of a step against the bare optimizer
	$(BIN)/python -m benchmarks.step

bench-layer: $(STAMP) ## Measure the circuit layer beside PennyLane, tensorcircuit-ng and SamplerQNN
	$(BIN)/python -m pip install --quiet -c constraints.txt --group bench
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.layer $(BENCH_FLAGS)

bench-attention: $(STAMP) ## Measure quantum attention beside plain attention
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.attention

bench-llm: $(STAMP) ## Measure the step of a 1 B-parameter language model (needs a GPU)
	$(BIN)/python -m benchmarks.llm_step

package: ## Build wheel and sdist, install the wheel into an empty environment, and run it there
	PYTHON=$(PYTHON) bash .ci/package

docs: $(STAMP) ## Build the documentation site into build/site; a broken link is an error
	$(BIN)/python -m pip install --quiet -c constraints.txt --group docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

ecosystem: $(STAMP) ## Try a perturbed optimizer with Hugging Face, accelerate, torchao, optuna, W&B, MLflow, Ray
	$(BIN)/python -m pip install --quiet -c constraints.txt --group ecosystem
	$(BIN)/python -m pytest tests/integration/test_ecosystem.py

pictures: $(STAMP) ## Draw the pictures of the documentation
	$(BIN)/python -m docs.make_pictures

audit: $(STAMP) ## Check the pinned dependencies for known weaknesses
	$(BIN)/python -m pip install --quiet --upgrade pip-audit
	$(BIN)/python .ci/audit

test-lowest: ## Run unit tests and fits with the lowest versions of pyproject.toml (needs uv)
	bash .ci/test-lowest

test-python: ## Run all tests with another Python: make test-python PYTHON=python3.13
	$(MAKE) test VENV=.venv-$(notdir $(PYTHON)) PYTHON=$(PYTHON)

clean: ## Remove the environment and caches, but no runs
	rm -rf $(VENV) .venv-* build .mypy_cache .pytest_cache .ruff_cache .hypothesis
