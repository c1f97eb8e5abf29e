.DEFAULT_GOAL := help
.PHONY: help run test check bench build up down logs ps smoke smoke-embedded doctor reset secrets obs-up obs-down

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## generator, dataflow and api together, on files under ./data: nothing else is needed
	@scripts/run.sh

test: ## all tests; those on a real Kafka and Postgres too if they are there (see README, Testing)
	@scripts/test.sh

check: ## format, lints, documentation, scripts: what CI checks besides the tests
	@scripts/check.sh

bench: ## events/s, CPU per event and memory on this machine, beside consuming and parsing alone (N=5000000 events)
	@scripts/bench.sh catchup $(N)

build: ## the release programs, in target/release
	@bash -c '. scripts/lib.sh && build_programs'

up: ## the stack in Docker: Kafka, Postgres and the three programs, until all is healthy
	@scripts/stack.sh up

down: ## stop the stack; its data stays
	@scripts/stack.sh down

logs: ## what the stack's services say
	@scripts/stack.sh logs

ps: ## what of the stack runs
	@scripts/stack.sh ps

smoke: ## is the running stack right? Known events in, exact numbers out, a kill -9 in between
	@scripts/smoke.sh

smoke-embedded: ## `make run` seen from outside: rows, refusals, Ctrl-C, a second run
	@scripts/smoke_embedded.sh

doctor: ## what is wrong with the stack, and what to do
	@scripts/doctor.sh

secrets: ## passwords of your own for the stack, before its first start
	@scripts/stack.sh secrets

obs-up: ## Prometheus and Grafana beside the stack
	@scripts/stack.sh obs-up

obs-down: ## stop these two
	@scripts/stack.sh obs-down

reset: ## forget all stored data: ./data (or DATA_DIR) and the stack's volumes; refuses while `make run` runs
	@scripts/reset.sh
	@if timeout 20 docker version >/dev/null 2>&1; then scripts/stack.sh reset; fi
