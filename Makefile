PYTHON ?= python3

.PHONY: up down status test e2e

up:
	$(PYTHON) -m local up

down:
	$(PYTHON) -m local down

status:
	$(PYTHON) -m local status

# Lint, types, and every test that needs no cluster.
test: .venv/development
	$(PYTHON) -m local tools
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy infra service local tests
	.venv/bin/pytest -m "not e2e" --durations 10

# What needs the cluster; it is removed again, however the tests end.
e2e: .venv/development
	trap '$(PYTHON) -m local down' EXIT; $(PYTHON) -m local up && .venv/bin/pytest -m e2e --durations 10

.venv/development: requirements.txt requirements-dev.txt service/requirements.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@
