# Everything a person runs. `make demo` and `make test` do all set-up on a fresh machine; a second run starts at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO_DATA ?= demo-data
# Processes that `make test` shares its tests out to: one for each core, and no more than four.
TEST_WORKERS ?= logical
# Where the CPU build of torch lies when pip's own sources don't have it: PyTorch's index.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PIP := $(BIN)/pip --disable-pip-version-check -q

# Debian packages whose programs tests run; each program has its package's name.
SYSTEM_PACKAGES := chromium prometheus

.DEFAULT_GOAL := help
.PHONY: help setup system-packages demo up test screenshots chaos lint format bench-core bench gate-study drift-study soak mutants dashboards docs proto clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 12

setup: $(READY)  ## virtual environment with the pinned packages

$(READY): requirements/cpu.txt requirements/dev.txt pyproject.toml
	@echo "Installing the pinned packages into $(VENV) (about two minutes, 4 GB)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	torch=$$(grep '^torch==' requirements/cpu.txt); \
	  $(PIP) install --no-deps "$$torch" || $(PIP) install --no-deps --index-url $(TORCH_INDEX) "$$torch"
	$(PIP) install --no-deps -r requirements/cpu.txt -r requirements/dev.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	touch $(READY)

system-packages:  ## programs that tests run; installed where we are root and there is apt-get
	@missing=$$(for name in $(SYSTEM_PACKAGES); do command -v $$name >/dev/null || echo $$name; done); \
	  test -z "$$missing" && exit 0; \
	  if test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
	    echo "Installing $$missing"; apt-get update -qq; \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing && exit 0; \
	  fi; \
	  echo "Not there, and not to be installed by us:" $$missing "- tests that need them say so"

demo: $(READY)  ## train a small model end to end and show what happened
	$(BIN)/sspo demo --data $(DEMO_DATA)

up: $(READY)  ## run the service on ./sspo-data
	$(BIN)/sspo up --data sspo-data

test: $(READY) system-packages  ## all tests that belong to every change
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --maxprocesses 4

screenshots: $(READY) system-packages  ## the dashboard's pictures in docs/images, of made-up jobs and of the demo
	$(BIN)/python -m tests.browser.screenshots

chaos: $(READY)  ## kill everything at random for three quarters of an hour; writes benchmarks/results/chaos.json
	$(BIN)/python -m tests.chaos.run

lint: $(READY)  ## style, types, who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## put the code into its standard form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench-core: $(READY)  ## sspo_core against the plain way, side by side
	$(BIN)/python benchmarks/bench_core.py

bench: bench-core  ## all comparisons: sspo_core, and the trajectory path against raw redis-py
	$(BIN)/python -m benchmarks.bench_path

soak: $(READY)  ## half an hour of one calm job: memory, descriptors, what Redis keeps
	$(BIN)/python -m tests.chaos.soak

gate-study: $(READY)  ## how the default gate was chosen: missing runs, tables, figures
	$(BIN)/python -m benchmarks.gate_study

drift-study: $(READY)  ## five ways in which a job goes wrong, and what names and cures them: missing runs, table, figures
	$(BIN)/python -m benchmarks.drift_study

mutants: $(READY)  ## change 120 points of the code, one at a time, and list what no test beside it notices
	$(BIN)/python -m tests.mutants

dashboards: $(READY)  ## generate Grafana's dashboards, Prometheus' rules and docs/metrics.md
	$(BIN)/python -m deploy.monitoring

docs: $(READY)  ## generate docs/settings.md, docs/job.md and docs/job.schema.json
	$(BIN)/python -m services.settings
	$(BIN)/python -m deploy.docs

proto: $(READY)  ## generate the messages of proto/
	$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=proto --pyi_out=proto proto/sspo_proto/trajectory.proto

clean:  ## remove what the commands above made here
	rm -rf $(DEMO_DATA) .pytest_cache .mypy_cache .ruff_cache build
