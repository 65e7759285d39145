PYTHON ?= python3

STACK ?= dev

.PHONY: up down status test e2e policy preview drift workflows

up:
	$(PYTHON) -m local up

down:
	$(PYTHON) -m local down

status:
	$(PYTHON) -m local status

# Lint, types, and every test that needs no cluster.
test: .venv/development policy/.venv/pack workflows
	$(PYTHON) -m local tools
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy infra service local bench tests
	.venv/bin/mypy --python-executable policy/.venv/bin/python policy
	.venv/bin/pytest -m "not e2e" --numprocesses auto --maxprocesses 4 --dist loadfile --durations 10

# What needs the cluster; it is removed again, however the tests end.
e2e: .venv/development
	trap '$(PYTHON) -m local down' EXIT; $(PYTHON) -m local up && .venv/bin/pytest -m e2e --durations 10

# What a pull request is told: preview and policies by the real engine, without cluster, state or secrets; also in build/.
preview: policy/.venv/pack
	$(PYTHON) -m local preview $(STACK)

# Whether the cluster still is as the stack left it, with your own `pulumi`, state and cluster; fails where it is not.
drift: .venv/program policy/.venv/pack
	pulumi preview -s $(STACK) --refresh --expect-no-changes --diff --non-interactive \
		--policy-pack policy $(patsubst %,--policy-pack-config %,$(wildcard policy/$(STACK).json))

# The policy pack alone: its types, its rules, and the real engine that runs it.
policy: .venv/development policy/.venv/pack
	.venv/bin/mypy --python-executable policy/.venv/bin/python policy
	.venv/bin/pytest tests/policy

# The workflows of .github: their syntax and types, and what makes one unsafe.
workflows: .venv/development
	"$$($(PYTHON) -m local tools actionlint)"/actionlint -shellcheck .venv/bin/shellcheck
	.venv/bin/zizmor --offline --quiet --persona pedantic .github

.venv/program: requirements.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

policy/.venv/pack: policy/requirements.txt
	test -x policy/.venv/bin/python || $(PYTHON) -m venv policy/.venv
	policy/.venv/bin/pip install --quiet --disable-pip-version-check -r policy/requirements.txt
	touch $@

.venv/development: requirements.txt requirements-dev.txt service/requirements.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@
