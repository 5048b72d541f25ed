# Every target works from a clean clone with Python 3.11 or newer, make and the package index.
# The environment in .venv is made by the first target that needs it and again when the lock changes.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
HASH = $(shell $(PYTHON) -c "import hashlib,sys;print(hashlib.sha256(open(sys.argv[1],'rb').read()+sys.version.encode()).hexdigest()[:16])" $(1))
RUNTIME := $(VENV)/.runtime-$(call HASH,requirements.txt)
DEVELOPMENT := $(VENV)/.development-$(call HASH,requirements-dev.txt)
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r

TEST_POSTGRES_URL ?= postgres://postgres@127.0.0.1:5432/postgres
OMS_CHROMIUM ?= /usr/bin/chromium
JOBS ?= 2
NAME ?= sync
export OMS_CHROMIUM

.PHONY: help demo serve test test-sqlite test-postgres browser-present check bench screenshots format docs lock clean

help: ## What can be asked for
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": set PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): | $(VENV)/bin/python
	$(PIP) requirements.txt
	@touch $@

# The development lock holds the runtime lock too.
$(DEVELOPMENT): | $(VENV)/bin/python
	$(PIP) requirements-dev.txt
	@touch $@ $(RUNTIME)

demo: $(RUNTIME) ## A brand with a year behind it, running: web, worker, dispatcher, sandbox
	$(RUN) manage.py demo

serve: $(RUNTIME) ## The product on an embedded database, without demo data
	$(RUN) manage.py migrate --noinput --verbosity 0
	set -m; trap 'kill $$(jobs -p) 2>/dev/null; wait' EXIT; trap 'exit 0' INT TERM; \
	$(RUN) manage.py worker & $(RUN) manage.py dispatch & $(RUN) manage.py serve & wait

test: test-sqlite test-postgres ## The whole suite on SQLite, then on PostgreSQL where one answers

test-sqlite: $(DEVELOPMENT) browser-present
	env -u DATABASE_URL $(RUN) -m pytest -q -n $(JOBS) --dist loadfile -m "not browser" $(ARGS)
	env -u DATABASE_URL $(RUN) -m pytest -q -m browser $(ARGS) || [ $$? -eq 5 ]

test-postgres: $(DEVELOPMENT)
	@if $(RUN) -c 'import psycopg, sys; psycopg.connect(sys.argv[1], connect_timeout=3).close()' \
	    '$(TEST_POSTGRES_URL)' 2>/dev/null; then \
	  DATABASE_URL='$(TEST_POSTGRES_URL)' $(RUN) -m pytest -q -n $(JOBS) --dist loadfile $(ARGS); \
	elif [ "$${CI:-}" = true ]; then \
	  echo 'No PostgreSQL answers at TEST_POSTGRES_URL: CI needs one.' >&2; exit 1; \
	else echo 'No PostgreSQL answers at TEST_POSTGRES_URL: the PostgreSQL run is left out.'; fi

browser-present:
	@if [ "$${CI:-}" = true ] && [ ! -x $(OMS_CHROMIUM) ]; then \
	  echo 'No Chromium at $(OMS_CHROMIUM): CI needs one.' >&2; exit 1; fi

# A production-like environment with throw-away keys: `check --deploy` must have nothing to say.
DEPLOY = DATABASE_URL=postgres://oms:oms@127.0.0.1:1/oms OMS_HOME=$$(mktemp -d) \
	OMS_SECRET_KEY=$$($(RUN) -c 'import secrets; print(secrets.token_urlsafe(60))') \
	OMS_FIELD_KEYS=k1:$$($(RUN) -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())') \
	OMS_ALLOWED_HOSTS=oms.example.com OMS_BASE_URL=https://oms.example.com

check: $(DEVELOPMENT) ## Lint, format, types, import rules, templates, migrations, deployment settings
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/lint-imports --no-cache
	$(RUN) manage.py makemigrations --check --dry-run
	$(DEPLOY) $(RUN) manage.py check --deploy --fail-level WARNING
	$(VENV)/bin/djlint --lint --quiet templates
	$(RUN) scripts/draw_models.py --check
	$(RUN) scripts/openapi.py --check
	$(RUN) -m mypy .

bench: $(RUNTIME) ## Measure on real sockets: make bench NAME=sync ARGS="--db postgres"
	$(RUN) manage.py bench $(NAME) $(ARGS)

screenshots: $(DEVELOPMENT) ## Pictures of every screen, wide and narrow, light and dark, in var/screenshots
	$(RUN) -m scripts.screenshots $(ARGS)

format: $(DEVELOPMENT) ## Put the code in its one shape
	$(RUN) -m ruff check --fix --quiet . || true
	$(RUN) -m ruff format .

docs: $(RUNTIME) ## Draw the data model again into docs/data-model.md
	$(RUN) scripts/draw_models.py
	$(RUN) scripts/openapi.py

lock: $(DEVELOPMENT) ## Resolve pyproject.toml again into both requirement files
	$(RUN) -m pip install --quiet uv
	for extra in "" "--extra dev"; do \
	  $(VENV)/bin/uv pip compile pyproject.toml $$extra --upgrade --generate-hashes --no-header --no-annotate \
	    --no-emit-index-url --python-version 3.11 --quiet -o requirements$${extra:+-dev}.txt; done

clean: ## Remove the environment, the embedded database and every cache
	rm -rf $(VENV) var .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache test-results staticfiles
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
