# What there is to do here. `make` alone lists it.
#
# The first target that needs them makes a virtual environment and installs what was tested together (constraints/);
# later ones find it done. Needed beforehand: Python 3.11, pip, make, and git to get here.

PYTHON ?= $(shell command -v python3.11 || echo python3)
VENV ?= .venv
CONSTRAINTS ?= constraints/transformers5.txt
TORCH_BACKEND ?=
WORKERS ?= 2
ARGS ?=

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed-$(notdir $(CONSTRAINTS))

# A cold import of torch and transformers compiles for six seconds unless Python may keep what it compiled.
unexport PYTHONDONTWRITEBYTECODE
# Small models gain nothing from threads that wait for each other, and tests run side by side.
test test-all test-families: export OMP_NUM_THREADS = 1
test test-all test-families: export TOKENIZERS_PARALLELISM = false

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test test-older test-families test-gpu test-all stack stack-down soak bench run-bench install lint constraints clean

help:  ## List these targets
	@echo 'make <target>, one of:'
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'
	@echo
	@echo 'Variables: PYTHON=$(PYTHON) VENV=$(VENV) CONSTRAINTS=$(CONSTRAINTS) WORKERS=$(WORKERS) ARGS="…"'
	@echo '  TORCH_BACKEND=cpu takes torch without CUDA from PyTorch'\''s own index: a tenth of the download'

demo: $(INSTALLED)  ## Run the sentiment DAG from download to report, all in .demo/ (ARGS="epochs=3")
	@$(BIN)/python example_dags/run_demo.py .demo $(ARGS)

test: $(INSTALLED)  ## Run the tests, except the slow ones (ARGS="-k word" for some)
	$(BIN)/python -m pytest -n $(WORKERS) -m 'not slow and not gpu' $(ARGS)

# The matrix of all tasks, and where the families differ: what is written and read back, and what pipelines keep.
CORE := tests/matrix tests/inference tests/pipelines/test_feature_extraction.py \
    $(addprefix tests/registry/test_,generating_tasks.py hub_folders.py passthrough.py embeddings.py)
OLDER := VENV=$(VENV)-transformers4 CONSTRAINTS=constraints/transformers4.txt

test-older:  ## Run the core of the tests under transformers 4.57
	$(MAKE) test $(OLDER) ARGS='$(CORE) $(ARGS)'

test-families: $(INSTALLED)  ## Run what one family of transformers logged under the other
	$(MAKE) install $(OLDER)
	$(BIN)/python -m pytest -m slow tests/inference/test_families.py $(ARGS)

test-gpu: $(INSTALLED)  ## Run what needs a GPU, on this machine's
	$(BIN)/python -m pytest -m gpu tests/gpu $(ARGS)

test-all: $(INSTALLED)  ## Run all tests, under transformers 5 and 4.57
	$(MAKE) install $(OLDER)
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)
	$(MAKE) test $(OLDER)

STACK := $(BIN)/python -m airflow_provider_hfreg.testing.stack

stack: $(INSTALLED)  ## Start the real thing on this machine, all in .stack/ (docs/stack.md)
	@$(STACK) up .stack --dags example_dags --dags tests/soak/dags --stop-with 'make stack-down'

stack-down:  ## End it
	@if [ -f .stack/state.json ] && [ -x $(BIN)/python ]; then $(STACK) down .stack; else echo 'No stack is up.'; fi

soak: $(INSTALLED)  ## Kill parts of the stack while it runs tables, round after round (ARGS="rounds=3 seed=17")
	@$(BIN)/python tests/soak .stack $(ARGS)

install: $(INSTALLED)  ## Only make the virtual environment, if it is not there

bench:  ## Run all benchmarks, for hours, and write docs/benchmarks.md (ARGS="encoders" for some)
	$(MAKE) run-bench VENV=$(VENV)-bench

run-bench: $(INSTALLED)
	@grep -E '^(torch|transformers|tokenizers|numpy|pandas)==' $(CONSTRAINTS) > $(VENV)/compared.txt  # MLflow bounds others
	@$(like_pip); $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint $(VENV)/compared.txt --editable '.[bench]'
	$(BIN)/python benchmarks/run_all.py $(ARGS)

lint: $(INSTALLED)  ## Check style, types and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

constraints: $(INSTALLED)  ## Resolve constraints/ anew
	$(call resolve,constraints/transformers5.txt,'transformers>=5')
	$(call resolve,constraints/transformers4.txt,'transformers<5')

clean: stack-down  ## Remove what these targets left behind, the virtual environments too
	rm -rf .demo .servers .stack .venv .venv-bench .venv-transformers4 .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- installing -------------------------------------------------------------------------------------------------------

# uv installs all of this in seconds; it is told what pip is set up with (pip.conf, PIP_*), and pip takes over if it fails.
pip_setting = $$($(BIN)/python -m pip config list | sed -n "s/^[^=]*\.$(1)='\(.*\)'$$/\1/p" | sed 's/\\n/ /g; s/^ *//; q')
define like_pip
find_links="$(call pip_setting,find-links)"; index="$(call pip_setting,index-url)"; \
more="$(call pip_setting,extra-index-url)"; certificate="$(call pip_setting,cert)"; \
if [ -n "$$find_links" ]; then export UV_FIND_LINKS="$$(echo $$find_links | tr ' ' ',')"; fi; \
if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$$index"; fi; \
if [ -n "$$more" ]; then export UV_INDEX="$$more" UV_INDEX_STRATEGY=unsafe-best-match; fi; \
if [ -n "$$certificate" ]; then export SSL_CERT_FILE="$$certificate"; fi
endef

$(INSTALLED): pyproject.toml $(CONSTRAINTS)
	@echo 'Installing into $(VENV), once …'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check uv
	@$(like_pip); $(BIN)/uv pip install --quiet --python $(BIN)/python $(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND)) \
	    --constraint $(CONSTRAINTS) --editable '.[dev]' \
	|| { echo 'uv could not; trying pip, which takes minutes …'; \
	     $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable '.[dev]'; }
	@rm -f $(VENV)/.installed-* && touch $@

# --- constraints ------------------------------------------------------------------------------------------------------

# torch is held at the release that was tested. Its CPU build is resolved (from pip's find-links, or with
# TORCH_BACKEND=cpu), and written without "+cpu": the same pin holds where a CUDA build is installed.
define resolve
@echo 'Resolving $(1) …'
@{ echo '# Tested together with airflow-provider-hfreg[dev] on Python 3.11. Made by "make constraints"; use it as'; \
   echo "#     pip install '.[all]' --constraint $(1)"; \
   $(like_pip); printf '%s\n' 'torch==2.13.0' $(2) | $(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 \
       $(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND)) --no-header --no-annotate --no-emit-index-url \
       --no-emit-find-links --extra dev pyproject.toml - | sed 's/^\(torch==[0-9.]*\)+[a-z0-9]*/\1/'; } > $(1).new
@mv $(1).new $(1)
endef
