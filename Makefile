# `make` alone lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
HOME_DIR := $(or $(EVERGREEN_HOME),.evergreen)
UV_VERSION := 0.13.8
UV := .venv-uv/bin/uv
RUN := .venv/bin

# Where it is set, each of the many processes that the targets start compiles all modules again, and pytest all tests.
unexport PYTHONDONTWRITEBYTECODE

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: install ## start everything and run the whole loop on real data; Ctrl-C stops it
	@exec $(RUN)/evergreen demo

up: install ## start Airflow, MLflow and the object store; Ctrl-C stops them
	@exec $(RUN)/evergreen up

stack: install .venv/.celery ## run docker-compose.yaml's services without Docker, with two Celery workers; Ctrl-C stops them
	@exec $(RUN)/evergreen stack

test: install ## all tests: lint, types, unit tests and whole stages, and beside them end to end
	@$(MAKE) --no-print-directory --keep-going --jobs=3 lint end-to-end pytest MARKED="not end_to_end"

check: install ## the fast part: lint, types, unit tests
	@$(MAKE) --no-print-directory --keep-going --jobs=2 lint pytest MARKED="not end_to_end and not slow" LOOK=--quick

# Parts of the two above, which run beside one another. End to end takes as long as one task waits for another, however
# many processors there are: what has nothing to wait for gives way to it, and ends with it. It gets half of an equal part
# or so: many tests have a time within which something must have happened.
pytest:
	@nice -n 6 $(RUN)/pytest -m "$(MARKED)" -n 3 --dist loadfile --no-loadscope-reorder --durations=10

end-to-end:
	@mkdir -p $(HOME_DIR)
	@echo "end to end: its output comes at its end; until then it is in $(HOME_DIR)/end_to_end.log"
	@failed=0; $(RUN)/pytest -m end_to_end tests/end_to_end -n 3 --dist loadscope --durations=10 >$(HOME_DIR)/end_to_end.log 2>&1 || failed=$$?; \
	  cat $(HOME_DIR)/end_to_end.log; exit $$failed

stack-test: install .venv/.celery ## the end-to-end tests on the full stack, in place of the embedded default (root)
	@$(RUN)/pytest -m end_to_end tests/end_to_end --stack -n 3 --dist loadscope --durations=10

lint:
	@$(RUN)/ruff check .
	@$(RUN)/ruff format --check .
	@$(RUN)/lint-imports
	@$(RUN)/mypy
	@$(RUN)/evergreen check $(LOOK)
	@$(RUN)/python -m docs.generate --check

docs: install ## build the documentation as a site into site/, to be opened in a browser; a broken link fails
	@rm -rf site .cache
	@$(RUN)/python -m zensical build --strict
	@echo "open site/index.html"

screenshots: install ## look at the pages of a demo that was played, in Chromium, and take docs/images (a few minutes)
	$(RUN)/python -m docs.screenshots

gauntlet: install ## inject faults of every kind and see which gate stops them; writes docs/measurements/gauntlet.md (about an hour)
	$(RUN)/python -m benchmarks.gauntlet --write

loop-bench: install ## time the demo's loop, a plain script and other tools; writes docs/measurements/loop.md (a quarter of an hour, on an idle machine)
	$(RUN)/python -m benchmarks.loop --write

drift-bench: install ## plant shifts in real data and see what is found, and what it is called; writes docs/measurements/drift.md (half an hour)
	$(RUN)/python -m benchmarks.drift --write

tables-bench: install ## play ten real tables with nothing but the required settings; writes docs/measurements/tables.md (half an hour)
	$(RUN)/python -m benchmarks.tables --write

new-bench: install ## let `evergreen new` propose problems for ten real tables, and run them; writes docs/measurements/new.md (half an hour)
	$(RUN)/python -m benchmarks.proposed --write

release-bench: install ## decide releases on a year of flights under many assignments; writes docs/measurements/release.md (a quarter of an hour)
	$(RUN)/python -m benchmarks.release --write

stack-bench: install .venv/.celery ## play the demo on the full stack, and days while its hosts and services fail; writes docs/measurements/stack.md (root; an hour)
	$(RUN)/python -m benchmarks.stack --write

chaos: install ## play the loop while its processes are killed and its services fail; writes docs/reliability.md (an hour or two; it goes on where it was stopped)
	$(RUN)/python -W ignore -m benchmarks.chaos --keep $(HOME_DIR)/chaos --write

clean: ## remove what was installed and all that ran: data, models, logs, copies of rows
	@if [ -x $(RUN)/evergreen ]; then $(RUN)/evergreen down; fi
	rm -rf $(HOME_DIR) .venv .venv-uv site .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	rm -rf "$${TMPDIR:-/tmp}/evergreen-copies-$$(id -u)"/{logs,rows,temporary,usage,work}

install: .venv/.installed

# The stamp comes last: an install that was interrupted is gone on with.
.venv/.installed: pyproject.toml uv.lock | $(UV)
	@free=$$(df -Pk . | awk 'NR==2 {print int($$4/1024)}'); if [ $$free -lt 4096 ]; then \
	  echo "error: only $$free MiB are free here; Evergreen needs 4096. Free some space, then run this again." >&2; exit 1; fi
	@echo "installing Evergreen into .venv (a minute or two the first time)"
	@$(UV) sync --frozen --quiet --compile-bytecode --no-python-downloads --python .venv-uv/bin/python || { \
	  echo "error: the install stopped (see above). Is the network up? Run the same command again: it goes on." >&2; exit 1; }
	@touch $@

# What the full stack needs beyond the embedded default. Other extras that are there stay.
.venv/.celery: .venv/.installed
	@$(UV) sync --frozen --quiet --inexact --extra celery --compile-bytecode --no-python-downloads --python .venv-uv/bin/python
	@touch $@

$(UV):
	@command -v $(PYTHON) >/dev/null || { \
	  echo "error: $(PYTHON) is missing. Install Python 3.11 to 3.13, or name one: make demo PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "error: $$($(PYTHON) --version) is not supported. Name a Python 3.11 to 3.13: make demo PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "error: $(PYTHON) cannot make virtual environments. On Debian: apt-get install python3-venv" >&2; exit 1; }
	@rm -rf .venv-uv && $(PYTHON) -m venv .venv-uv && .venv-uv/bin/pip install --quiet uv==$(UV_VERSION) || { \
	  rm -rf .venv-uv; echo "error: uv could not be installed (see above). Is the network up? Run the same command again." >&2; exit 1; }

.PHONY: help demo up stack test check pytest end-to-end stack-test lint docs screenshots gauntlet loop-bench drift-bench tables-bench new-bench release-bench stack-bench chaos clean install
