# Each target is what a person could type; settings live in pyproject.toml.

PYTHON ?= python3
BIN := .venv/bin
SEED ?= 1
STEPS ?= 100000
SECONDS ?= 600
EXAMPLES ?= 200
PREFIX ?= /opt/pitboss
UNITS := /usr/local/lib
JOBS ?= 4

.DEFAULT_GOAL := help
.PHONY: help setup run test lint types fmt arch core sim soak chaos fuzz cov bench docs dist systemd releases install uninstall clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/stamp ## Make .venv with everything in it; does nothing while pyproject.toml is unchanged

.venv/stamp: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev,demo,workloads]'
	@touch $@ .venv/demo

# The demo needs neither the tools of the tests nor the programs that they try.
.venv/demo: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

run: .venv/demo ## Run the demo: a web pool and a job queue under pitbossd, in the foreground
	@cat configs/demo/welcome.txt
	@exec $(BIN)/pitbossd run configs/demo.yaml

test: setup lint types cov ## Everything that CI runs; most tests wait, so more run at once than there are cores
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

lint: setup ## Style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## Types, strictly
	$(BIN)/mypy

fmt: setup ## Format, and repair what can be repaired
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

arch: setup ## The rules of the house: who imports whom, sizes, names
	$(BIN)/python -m pytest -q tests/test_architecture.py

core: setup ## The core's own tests, for the edit loop
	$(BIN)/python -m pytest -q tests/core

sim: setup ## Replay one simulated host: make sim SEED=42
	$(BIN)/python -m tests.simulation --seed $(SEED)

soak: setup ## Many simulated hosts: make soak STEPS=1000000
	$(BIN)/python -m tests.simulation --steps $(STEPS)

fuzz: setup ## Made-up requests, datagrams and manifests by the thousand: make fuzz EXAMPLES=2000
	FUZZ_REQUESTS=$(EXAMPLES) $(BIN)/python -m pytest -q -n 2 tests/e2e/test_described_api.py \
		tests/e2e/test_faults.py tests/e2e/test_exec_faults.py tests/runtime/test_notify_fuzz.py \
		tests/manifest/test_fuzz.py tests/manifest/test_grammar.py

chaos: setup ## Ten minutes of storm against a real daemon: make chaos SEED=7 SECONDS=60
	$(BIN)/python -m tests.chaos --seconds $(SECONDS) $(if $(findstring file,$(origin SEED)),,--seed $(SEED))

cov: setup ## Branch coverage; the bar is for what decides
	$(BIN)/coverage run -m pytest -q tests/core
	$(BIN)/coverage report --include 'supervisor/core/*' --fail-under 100

bench: setup ## What an event costs, how fast a killed worker is back, all of it beside others; hours, RESUME=1 goes on
	$(BIN)/python -m tests.benchmarks $(if $(RESUME),--resume)

docs: setup ## Write the generated pages of docs/ again
	$(BIN)/python -m docs.generate

dist: setup ## Build the wheel, install it elsewhere, see that both commands answer
	rm -rf build dist
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .
	$(PYTHON) -m venv --clear build/venv
	build/venv/bin/pip install --quiet --disable-pip-version-check dist/pitboss-*.whl
	build/venv/bin/pitbossd --version
	build/venv/bin/pitbossctl --version

systemd: setup ## Under real systemds, of three releases and in a virtual machine; as root, downloads them once
	PITBOSS_GUESTS=bookworm,trixie,testing,machine $(BIN)/python -m pytest -v tests/systemd

releases: setup ## As root: all that CI runs, with the Pythons of later releases of Debian; ten minutes each
	$(BIN)/python -m tests.releases trixie testing

install: ## As root: into /opt/pitboss, with its systemd unit; enables and starts nothing
	rm -rf build/wheel
	$(PYTHON) -m venv $(PREFIX)
	$(PREFIX)/bin/pip wheel --quiet --no-deps --wheel-dir build/wheel .
	$(PREFIX)/bin/pip install --quiet --disable-pip-version-check build/wheel/pitboss-*.whl
	$(PREFIX)/bin/pip install --quiet --disable-pip-version-check --no-deps --force-reinstall build/wheel/pitboss-*.whl
	ln -sf $(PREFIX)/bin/pitbossd $(PREFIX)/bin/pitbossctl /usr/local/bin/
	install -d $(UNITS)/systemd/system $(UNITS)/sysusers.d $(UNITS)/tmpfiles.d /etc/pitboss
	sed 's,/opt/pitboss,$(PREFIX),g' systemd/pitbossd.service > $(UNITS)/systemd/system/pitbossd.service
	install -m 644 systemd/sysusers.conf $(UNITS)/sysusers.d/pitboss.conf
	install -m 644 systemd/tmpfiles.conf $(UNITS)/tmpfiles.d/pitboss.conf
	test -e /etc/pitboss/pitboss.yaml || install -m 644 configs/first.yaml /etc/pitboss/pitboss.yaml
	systemd-sysusers $(UNITS)/sysusers.d/pitboss.conf
	systemd-tmpfiles --create $(UNITS)/tmpfiles.d/pitboss.conf
	test ! -d /run/systemd/system || systemctl daemon-reload

uninstall: ## As root: stop it and remove what install made; manifest, journal and logs stay
	test ! -d /run/systemd/system -o ! -e $(UNITS)/systemd/system/pitbossd.service || systemctl disable --now pitbossd
	rm -f $(UNITS)/systemd/system/pitbossd.service $(UNITS)/sysusers.d/pitboss.conf $(UNITS)/tmpfiles.d/pitboss.conf
	rm -f /usr/local/bin/pitbossd /usr/local/bin/pitbossctl
	rm -rf $(PREFIX)
	test ! -d /run/systemd/system || systemctl daemon-reload

clean: ## Remove what these targets made, the demo's records included
	rm -rf .venv .demo build dist *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
