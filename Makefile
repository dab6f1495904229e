# Every step of the CI is a target here, and no target needs more than Rust, a C compiler, make and git: what is missing is installed,
# or named in one sentence.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help

# `make run` listens here, on 127.0.0.1 only.
PORT ?= 8000
OPS_PORT ?= 9000
# Known to everybody: for a service that nobody else can reach.
DEV_PASSWORD := only-on-this-computer

# What `make test` passes on to `cargo test`, `make test-chart` to pytest, and `make bench` to bench/run.
T ?=

# How long `make soak` goes on.
SOAK_SECONDS ?= 600

CARGO_DENY_VERSION := 0.20.2
# An installed one is used as it is.
CARGO_DENY := $(or $(shell command -v cargo-deny 2>/dev/null),target/tools/$(CARGO_DENY_VERSION)/bin/cargo-deny)

##@ Everyday

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } \
	    /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	    /^[a-z][a-z0-9_-]*:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# Built before anything is printed: the first build takes minutes, shows its progress, and would push the line to try out
# of sight. The two URLs are set to their defaults, so that a DATABASE_URL or REDIS_URL of another project is not used.
.PHONY: run
run: ## Serve on 127.0.0.1:$PORT (8000) in dev mode, with a file as database and the user admin
	@cargo build --locked
	@echo
	@echo "When the log says \"ready\" (on the first run: \"created the administrator of bootstrap.username\"), log in from"
	@echo "another terminal:"
	@echo
	@echo "  curl -s http://127.0.0.1:$(PORT)/v1.0/user/auth -H 'content-type: application/json' -d '{\"username\":\"admin\",\"password\":\"$(DEV_PASSWORD)\"}'"
	@echo
	@CLAVIGER_MODE=dev \
	    CLAVIGER_SERVER__LISTEN=127.0.0.1:$(PORT) \
	    CLAVIGER_SERVER__OPS_LISTEN=127.0.0.1:$(OPS_PORT) \
	    CLAVIGER_DATABASE__URL='sqlite://claviger.db?mode=rwc' \
	    CLAVIGER_TOKENS__URL=memory: \
	    CLAVIGER_BOOTSTRAP__USERNAME=admin \
	    CLAVIGER_BOOTSTRAP__PASSWORD=$(DEV_PASSWORD) \
	    cargo run --quiet --locked -- serve

.PHONY: test
test: ## Run all tests on both databases and both token stores; T="name" chooses
	@tests/run $(T)

.PHONY: test-chart
test-chart: ## Run the tests of the chart; T="-k ingress" chooses
	@tests/chart/run $(T)

# All runs at once: they mostly wait for their delays.
.PHONY: soak
soak: ## Look for histories of concurrent clients that nothing explains, for SOAK_SECONDS (600); HISTORY_SEED= chooses the first
	@HISTORY_SECONDS=$(SOAK_SECONDS) tests/run --test it -- history:: --nocapture --test-threads=16

.PHONY: fmt
fmt: ## Format the code
	cargo fmt --all

.PHONY: doc
doc: ## Build the documentation of the code, private items included
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked

.PHONY: bench
bench: ## Measure against bare ceilings (about 15 minutes; BENCH_SECONDS, BENCH_ROUNDS); T="sessions" chooses
	@bench/run $(T)

##@ Development

COMPOSE := docker compose
# Without .env what runs can be seen and ended all the same; the variables only have to be there.
ifeq ($(wildcard .env),)
COMPOSE_ENV := POSTGRES_PASSWORD=- REDIS_PASSWORD=- GRAFANA_PASSWORD=-
endif
# What concerns all containers concerns those of the profiles too, whichever profiles .env names.
COMPOSE_ALL := $(COMPOSE_ENV) $(COMPOSE) --profile '*'
# `docker compose exec` has to be told where there is no terminal.
EXEC := tty=; [ -t 0 ] && [ -t 1 ] || tty=-T; $(COMPOSE_ALL) exec $$tty
# `make upb` fetches the images anew. Empty: makes do with those that are here.
PULL ?= --pull

.PHONY: up
up: .env ## Start the development environment in Docker, and wait until it is ready
	@docker/up

.PHONY: upb
upb: .env ## The same, with all images built anew; PULL= for those who can't fetch any
	@$(if $(PULL),$(COMPOSE) pull --ignore-buildable)
	@$(COMPOSE_ALL) build --no-cache $(PULL)
	@docker/up --force-recreate

.PHONY: stop
stop: ## Stop it
	@$(COMPOSE_ALL) stop

.PHONY: down
down: ## Stop it and remove the containers; the data is kept
	@$(COMPOSE_ALL) down --remove-orphans

.PHONY: reset
reset: ## Remove all of it: containers, database, Redis, what was built; .env is kept
	@$(COMPOSE_ALL) down --remove-orphans --volumes

.PHONY: ps
ps: ## Show what runs
	@$(COMPOSE_ALL) ps --all

.PHONY: logs
logs: ## Show the logs, and follow them at a terminal; c=api chooses
	@follow=; [ ! -t 1 ] || follow=--follow; $(COMPOSE_ALL) logs --tail 200 $$follow $(c)

.PHONY: db
db: ## psql in the database
	@$(EXEC) db psql

.PHONY: r
r: ## redis-cli
	@$(EXEC) redis redis-cli

.PHONY: b
b: ## A shell in a container: c=api
	@[ -n "$(c)" ] || { echo "make: say in which container, such as c=api: $$($(COMPOSE_ALL) config --services | sort | xargs)" >&2; exit 2; }
	@$(EXEC) $(c) sh -c 'if command -v bash >/dev/null; then exec bash; else exec sh; fi'

.PHONY: dev
dev: ## The same processes without Docker; they end with Ctrl+C
	@PORT=$(PORT) OPS_PORT=$(OPS_PORT) DEV_PASSWORD=$(DEV_PASSWORD) docker/dev

.PHONY: doctor
doctor: ## Look for what keeps the above from working, and say what to do
	@docker/doctor

.PHONY: e2e-compose
e2e-compose: ## Try all of the above for real, in a copy and beside what runs
	@docker/e2e

.PHONY: e2e-kubernetes
e2e-kubernetes: ## Try the chart and the plain manifests on the cluster that kubectl talks to
	@tests/kubernetes/e2e

.env:
	@docker/env

##@ Checks

LINTS := lint-shell lint-python lint-workflows lint-docker lint-nix lint-sql

.PHONY: lint
lint: lint-fmt lint-code doc $(LINTS) deny ## Everything that is checked without running: format, clippy, doc, scripts, workflows, licences

.PHONY: lint-fmt
lint-fmt:
	cargo fmt --all --check

.PHONY: lint-code
lint-code:
	cargo clippy --workspace --all-targets --locked -- -D warnings

# All of them fetch their linters into one place, so never at once.
.NOTPARALLEL:
.PHONY: $(LINTS)
$(LINTS):
	@tests/lint $(@:lint-%=%)

.PHONY: deny
deny: $(CARGO_DENY) ## Check licences, banned crates and where crates come from
	$(CARGO_DENY) --locked --log-level error check bans licenses sources

# Not a part of `make lint`: the list of vulnerabilities is fetched, and grows while the code stays as it is.
.PHONY: advisories
advisories: $(CARGO_DENY) ## Look the crates up in the list of known vulnerabilities (needs the network)
	$(CARGO_DENY) --locked --log-level error check advisories

MSRV := $(shell sed -n 's/^rust-version = "\(.*\)"$$/\1/p' Cargo.toml)

.PHONY: msrv
msrv: ## Compile with the oldest Rust that Cargo.toml promises (needs rustup)
	rustup toolchain install $(MSRV) --profile minimal --no-self-update
	cargo +$(MSRV) check --workspace --all-targets --locked

# Built without optimisation: it builds in half the time, and a check takes 5 s in place of 2 s.
$(CARGO_DENY):
	@echo "building cargo-deny $(CARGO_DENY_VERSION) into target/tools, once (some minutes)"
	@CARGO_PROFILE_DEV_DEBUG=0 cargo install cargo-deny --version $(CARGO_DENY_VERSION) --locked --debug --quiet \
	    --root target/tools/$(CARGO_DENY_VERSION) --target-dir target/tools/build
	@rm -rf target/tools/build

##@ Generated files

.PHONY: openapi
openapi: ## Write openapi.json anew
	@mkdir -p target
	cargo run --quiet --locked -- openapi > target/openapi.json
	mv target/openapi.json openapi.json

.PHONY: example
example: ## Write config.example.toml anew
	@mkdir -p target
	cargo run --quiet --locked -- config example > target/config.example.toml
	mv target/config.example.toml config.example.toml

.PHONY: chart-docs
chart-docs: ## Write what follows from the comments of the chart's values.yaml: its README.md and values.schema.json
	@helm/generate

.PHONY: manifests
manifests: ## Write k8s/base anew, which is rendered from the chart (needs Helm)
	@k8s/render

define no_target
@echo "make: there is no target $@" >&2
@$(MAKE) --silent --no-print-directory help >&2
@exit 2
endef

# Make takes a folder for a target that is up to date, and so `make tests` for done.
FOLDERS := $(filter-out bench,$(patsubst %/,%,$(wildcard */)))
.PHONY: $(FOLDERS)
$(FOLDERS):
	$(no_target)

.DEFAULT:
	$(no_target)
