# Everything starts here: `make demo`, `make compose`, `make test`, `make check`, `make proofs`, `make bench`. The first of them sets up .venv by itself.
#
# Needs Python 3.11 or newer with pip, and make. PYTHON=python3.12 chooses another Python.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help venv demo compose test check proofs bench screenshots boards catalogues format lock imagelocks clean

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PROFILE ?= proofs
PAGES := libs/common/pages services/inbox services/portal
PART_OF_LOCK = $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet --constraints requirements.lock
# A file's tests stay together in one process; all processes share the servers. The order is that of tests/conftest.py.
TOGETHER := -n 2 --dist loadfile --no-loadscope-reorder

help: ## Say what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 20

venv: $(STAMP) ## Make .venv with exactly what requirements.lock pins

# A Python without ensurepip (bare Debian) still has pip itself, and that pip can install into .venv.
$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is not installed: install Python 3.11 or newer, or name one with PYTHON=" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $$($(PYTHON) -V) is too old: install Python 3.11 or newer, or name one with PYTHON=python3.12" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv >/dev/null 2>&1 || $(PYTHON) -m venv --without-pip --clear .venv || { echo "make: $(PYTHON) cannot make a virtual environment: install its venv module (Debian: apt install python3-venv)" >&2; exit 2; }
	@if $(BIN)/python -m pip --version >/dev/null 2>&1; then echo "$(BIN)/python -m pip"; \
	elif $(PYTHON) -m pip --python $(BIN)/python --version >/dev/null 2>&1; then echo "$(PYTHON) -m pip --python $(BIN)/python"; \
	else echo "make: $(PYTHON) has no pip of version 22.3 or newer: install it (Debian: apt install python3-pip)" >&2; exit 2; fi > .venv/.pip
	@echo "Installing what requirements.lock pins into .venv"
	@$$(cat .venv/.pip) install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	@$$(cat .venv/.pip) install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

demo: $(STAMP) ## Play the whole story on real servers; KEEP=1 leaves them running
	@$(BIN)/python -m deploy.local.demo $(if $(filter 1 yes true,$(KEEP)),--keep)

compose: ## Build the image and start everything in Docker, with simulated providers
	@docker compose version >/dev/null 2>&1 || { echo "make: docker compose does not answer: install Docker with its Compose plugin" >&2; exit 2; }
	@$(PYTHON) -m deploy.local.compose_secrets --sandbox
	docker compose --env-file deploy/.env --file deploy/compose.yaml up --build

test: $(STAMP) ## Run the whole test suite on real servers
	$(BIN)/python -m pytest $(TOGETHER)

check: $(STAMP) ## What CI runs: format, lint, types, import contracts, the image's file, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/hadolint deploy/Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec deploy/compose.yaml
	$(BIN)/python -m pytest $(TOGETHER)

proofs: $(STAMP) ## Hold the laws against many examples and sizes, which takes long; PROFILE=ci takes fewer, as CI does
	@case "$(PROFILE)" in transom|ci|proofs) ;; *) echo "make: PROFILE=$(PROFILE) is none of proofs, ci and transom" >&2; exit 2;; esac
	$(BIN)/python -m pytest $(TOGETHER) -m "proof or hypothesis" --hypothesis-profile=$(PROFILE) --timeout=3600

bench: $(STAMP) ## Measure, beside the floors of the same run
	@$(BIN)/python -m tests.bench

screenshots: $(STAMP) ## Take pictures of the pages of inbox and portal: build/screenshots, and those of the README
	@$(BIN)/python -m tests.screenshots

boards: $(STAMP) ## Write Grafana's boards from the definition of the panels
	@$(BIN)/python -m deploy.panels.grafana

catalogues: $(STAMP) ## Bring the new sentences of all pages into every gettext catalogue
	@for package in $(PAGES); do \
		domain=$$(basename $$package); locale=$$package/locale; \
		$(BIN)/pybabel -q extract --no-location --sort-output -F libs/common/pages/locale/babel.cfg -k N_ \
			-o $$locale/$$domain.pot $$package; \
		for po in $$locale/*/LC_MESSAGES/$$domain.po; do \
			$(BIN)/pybabel -q update --no-fuzzy-matching --ignore-pot-creation-date --width 120 -D $$domain \
				-l $$(basename $$(dirname $$(dirname $$po))) -i $$locale/$$domain.pot -d $$locale; \
		done; \
		rm $$locale/$$domain.pot; \
	done

format: $(STAMP) ## Put the sources into form
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

lock: $(STAMP) ## Choose the newest versions that pyproject.toml allows; then read the changes
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --all-extras --upgrade --quiet --output-file requirements.lock pyproject.toml
	@$(MAKE) --no-print-directory imagelocks

imagelocks: $(STAMP) ## Write the parts of requirements.lock that the image installs: production, and what builds the wheel
	$(PART_OF_LOCK) --output-file requirements.production.lock pyproject.toml
	@echo hatchling | $(PART_OF_LOCK) --output-file requirements.build.lock -

clean: ## Remove what was made, downloads excepted
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
