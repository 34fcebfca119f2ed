# Everything runs from a clean clone with Python 3.11+, make and a package registry. `make help` lists the targets.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
KAFKA  ?= embedded
FUZZ_SECONDS ?= 10
DEMO_SECONDS ?= 0
ATTEMPTS ?= 100000
RATE   ?= 10000
SCALE  ?= 1
MINUTES ?= 30
MUTANTS ?= 200
FORM   ?= full
SCENARIOS ?= tests/faults
CLIENT ?= kafka-python
SLOW   ?= tests/integration tests/contract

# Otherwise every test process loads schemathesis, which takes two seconds, for one file whose tests are all slow.
WITHOUT_SCHEMATHESIS := -p no:schemathesis --ignore=tests/contract/test_openapi.py

# More processes than the two cores, because some wait for a broker or a clock while others compute. The folders that wait most come
# first, so that no long file is left alone at the end. Measured for make test: 203 s with four processes, 184 s with six.
BY_FILE := --dist loadfile --no-loadscope-reorder

# The tests that talk to Kafka.
KAFKA_TESTS := tests/integration $(addprefix tests/contract/,test_local_broker.py broker test_group_consumer.py test_seeking_consumer.py test_compat.py test_api.py)

BY_PUBLIC_APIS := OMS_WEBHOOKS_KAFKA_SPEEDUPS=false OMS_WEBHOOKS_SENDER_SPEEDUPS=false

# If it is set, every process of a test compiles everything again, and takes twice as long to start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
comma := ,
.PHONY: help install demo docs mutants pictures test test-slow test-examples check test-fuzz test-kafka test-plain test-faults test-deploy test-operations test-browser prometheus-rule bench bench-path bench-search isolation bounds soak lock clean bench-recorder

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# uv installs five times faster than pip. Where it cannot be had, or does not reach the registry, pip does the same. Ctrl-C ends it all:
# without the trap, bash would go on with the next command, because pip exits with an ordinary code. Both chdb and chdb-core contain
# chdb/__init__.py. That of chdb must remain, but uv installs them in any order, so it installs chdb again.
define pip
@trap 'exit 130' INT; \
  uv=$$(command -v uv) || { uv=$(BIN)/uv; [ -x "$$uv" ] || $(BIN)/python -m pip install --disable-pip-version-check --quiet uv || true; }; \
  export UV_HTTP_TIMEOUT=$${UV_HTTP_TIMEOUT:-15}; \
  { "$$uv" pip install --python $(BIN)/python $(2) $(1) && \
    "$$uv" pip install --python $(BIN)/python --quiet --no-deps --reinstall-package chdb --constraint requirements.lock chdb; } || \
  { echo "uv could not install it; now with pip ..."; $(BIN)/python -m pip install --disable-pip-version-check $(2) $(1); }
endef

# After an upgrade of the system's Python, an existing .venv points to a Python that is gone, or to another version of it.
FITS := import os, sys; sys.exit(not os.path.isdir(f"{sys.prefix}/lib/python{sys.version_info[0]}.{sys.version_info[1]}"))
_ := $(shell [ ! -d $(VENV) ] || $(BIN)/python -c '$(FITS)' 2>/dev/null || { echo "$(VENV) is of another Python: making it anew ..." >&2; rm -rf $(VENV); })

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "OMS webhooks needs Python 3.11 or newer; run: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }  # Debian without python3-venv leaves half of one behind

# What the demo needs, without test tools, in the versions of the lock file.
$(VENV)/.installed-demo: pyproject.toml requirements.lock | $(VENV)/bin/python
	@echo "Installing what the demo needs into $(VENV); the largest part is ClickHouse (chdb, about 150 MB to download) ..."
	$(call pip,--constraint requirements.lock --editable '.[embedded]')
	@touch $@

$(VENV)/.installed: pyproject.toml requirements.lock | $(VENV)/bin/python
	@echo "Installing everything into $(VENV), including test tools ..."
	$(call pip,--requirement requirements.lock,--quiet)
	$(call pip,--no-deps --editable .,--quiet)
	@touch $@ $(VENV)/.installed-demo

install: $(VENV)/.installed ## Create .venv with everything in it

demo: $(VENV)/.installed-demo ## The whole pipeline on this machine; KAFKA=apache, DEMO_SECONDS=20
	@$(BIN)/oms-webhooks demo --kafka $(KAFKA) --seconds $(DEMO_SECONDS)

test: install ## Unit, contract and integration tests on the embedded parts, without the slow ones
	$(BIN)/python -m pytest tests/integration tests/contract tests/unit -m "not slow" $(WITHOUT_SCHEMATHESIS) -n 6 $(BY_FILE)

test-slow: install ## Slow tests: the store over HTTP and on a cluster, hostile receivers, schemathesis, the oracles, more examples; SLOW=tests/contract without whole pipelines
	$(BIN)/python -m pytest $(SLOW) -m slow -n 4 $(BY_FILE)
	$(BIN)/python -m pytest tests/unit -m "slow or hypothesis" --hypothesis-profile=thorough -n 2 --dist loadfile
	SAFETY_EXAMPLES=60 $(BIN)/python -m pytest tests/unit/broker/test_group_safety.py tests/unit/broker/test_progress.py

check: install ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test-kafka: install ## The tests that talk to Kafka, on a real Apache Kafka (Java 17 and Maven)
	$(BIN)/python -m pytest $(KAFKA_TESTS) --kafka=apache -n 2 --dist loadfile

# The contract tests of the sender choose between private and public APIs themselves, so they are not repeated here. Those of the store
# use neither library.
test-plain: install ## The integration tests and the contract tests of Kafka with only the public APIs of kafka-python and aiohttp
	$(BY_PUBLIC_APIS) $(BIN)/python -m pytest --kafka=$(KAFKA) $(KAFKA_TESTS) tests/contract/test_settings_check.py -m "not slow" $(WITHOUT_SCHEMATHESIS) -n 6 $(BY_FILE)
	$(BY_PUBLIC_APIS) $(BIN)/python -m pytest --kafka=$(KAFKA) -m slow -n 3 --dist loadfile \
	  $(addprefix tests/integration/,test_schedule.py test_outcomes.py::test_no_usable_answer_is_a_failure \
	    test_held.py::test_a_pause_holds_the_backlog_and_new_deliveries_and_resuming_sends_them)

test-faults: install ## Faults under load on a real Apache Kafka (Java 17 and Maven); FORM=short for the short form, CLIENT=librdkafka
	FAULTS_FORM=$(FORM) FAULTS_CLIENT=$(CLIENT) $(BIN)/python -m pytest $(SCENARIOS) --kafka=apache

mutants: install ## Mutation testing: small faults in core, broker, delivery and consumers; MUTANTS=200 of them
	$(call pip,'mutmut>=3.8$(comma)<4',--quiet)
	$(BIN)/python -m tests.mutants --mutants $(MUTANTS)

test-examples: install ## The examples of the documentation against real deliveries (nodejs npm golang-go ruby puma php-cli)
	$(BIN)/python -m pytest tests/examples -n 2 --dist loadfile

test-fuzz: install ## Hostile input: hypothesis, then atheris (Linux x86-64) for FUZZ_SECONDS=10 per target
	$(BIN)/python -m pytest tests/fuzz
	$(BIN)/python tests/fuzz/run.py --seconds $(FUZZ_SECONDS)

# Go needs a minute to build it, once.
var/tools/kustomize:
	@command -v go >/dev/null || { echo "make test-deploy needs Go, which builds kustomize and fetches schemas"; exit 1; }
	GOBIN=$(CURDIR)/var/tools go install sigs.k8s.io/kustomize/kustomize/v5@v5.0.3

test-deploy: install var/tools/kustomize ## Everything under deploy/ against schemas, linters and the code (promtool, Go)
	$(BIN)/python -m pytest tests/deploy -n 2 --dist loadfile

test-operations: install ## Debian's Prometheus watches the running system; something breaks, the alert fires
	$(BIN)/python -m pytest tests/operations

test-browser: install ## The dashboard in a real browser (Debian's chromium); screenshots in var/screenshots
	$(BIN)/python -m pytest tests/browser

pictures: install ## Screenshots of the dashboard on three screens, light and dark, to var/screenshots; those of the documentation to docs/images
	$(BIN)/python -m tests.browser.pictures
	$(BIN)/python -m tests.browser.pictures --docs

docs: install ## Build the documentation as a site, served at /docs; broken links and anchors are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "Built: open pipeline/web/site/index.html, or start oms-webhooks all and open /docs"

prometheus-rule: ## Write deploy/prometheus/rules.yml into the Kubernetes manifest
	@file=deploy/kubernetes/monitoring/prometheus-rule.yaml; \
	{ sed '/^spec:$$/q' $$file; sed -n '/^groups:/,$$p' deploy/prometheus/rules.yml | sed 's/^\(.\)/  \1/'; } > $$file.new && mv $$file.new $$file

bench: install ## What a delivery costs the whole system, by process (real Apache Kafka, ten minutes); COMPARE=old.json
	$(BIN)/python -m tests.bench.whole $(if $(COMPARE),--compare $(COMPARE))

bench-path: install ## CPU seconds per delivery of the fan-out beside a bare aiohttp client (real Apache Kafka)
	$(BIN)/python tests/bench/path.py

bench-search: install ## Searching a year of attempts, beside PostgreSQL; ATTEMPTS=100000
	$(BIN)/python tests/bench/search.py --attempts $(ATTEMPTS)

bench-recorder: install ## The recorder's throughput: a backlog, then RATE=10000 attempts a second (real Apache Kafka)
	$(BIN)/python tests/bench/recorder.py --rate $(RATE)

isolation: install ## How much healthy endpoints suffer if half of all endpoints turn hostile (real Apache Kafka, three minutes)
	$(BIN)/python -m tests.bench.isolation

bounds: install ## Memory and idle CPU of each role in the worst cases (real Apache Kafka); SCALE=0.005
	$(BIN)/python tests/bench/bounds.py --scale $(SCALE)

soak: install ## A long run with random faults (real Apache Kafka); MINUTES=30
	$(BIN)/python tests/faults/soak.py --minutes $(MINUTES)

lock: ## Resolve requirements.lock again (names and versions, no hosts)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-emit-index-url --no-emit-find-links \
	  --no-annotate --no-header pyproject.toml -o requirements.lock

clean: ## Remove what the targets created
	rm -rf $(VENV) var mutants pipeline/web/site .pytest_cache .mypy_cache .ruff_cache .hypothesis
