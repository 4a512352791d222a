# Targets create the environment they need; PYTHON names the interpreter to start from, 3.11 or newer.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

# Threads that wait go to sleep after a moment. Spinning for long makes a step ten times slower on a machine with other
# work; sleeping at once (OMP_WAIT_POLICY=PASSIVE) makes it half again as slow on an idle one.
export GOMP_SPINCOUNT ?= 2000

.DEFAULT_GOAL := help
.PHONY: help install quickstart web test test-fast lint docs clean

help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

install: $(VENV)/installed ## Create .venv with tested versions of everything

$(VENV)/installed: setup.cfg setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[data,train,space,export,dev,browser]"
	touch $@

quickstart: install ## Train on built-in data and score the result: outputs/quickstart, a quarter of an hour
	$(BIN)/python training/train_fdae.py --config training/configs/quickstart.yaml
	$(BIN)/python training/evaluate_fdae.py --model outputs/quickstart --dataset shapes3d-rendered

web: install ## Build the page that runs in the browser and serve it (needs Node.js 20)
	npm ci --prefix pipelines/web
	$(BIN)/python pipelines/web/build_page.py
	$(BIN)/python pipelines/web/serve.py

test: install ## Run all tests
	$(BIN)/python -m pytest

test-fast: install ## Run the tests that need neither long nor several processes nor a browser
	$(BIN)/python -m pytest -m "not slow and not processes and not browser"

lint: install ## Check style, types and the rules of the architecture
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python tests/test_architecture.py

docs: $(VENV)/docs-installed ## Build the site of docs/ with warnings as errors: outputs/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict --site-dir outputs/site

$(VENV)/docs-installed: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

clean: ## Delete the environment; outputs stay
	rm -rf $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache
