.DEFAULT_GOAL := help
.PHONY: help run test check smoke bench build reset

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## generator, dataflow and api together, on files under ./data: nothing else is needed
	@scripts/run.sh

test: ## all tests; those on a real Kafka and Postgres too if they are there (see README, Testing)
	@scripts/test.sh

check: ## format, lints, documentation, scripts: what CI checks besides the tests
	@scripts/check.sh

smoke: ## `make run` seen from outside: rows, refusals, Ctrl-C, a second run
	@scripts/smoke.sh

bench: ## events/s, CPU per event and memory on this machine (N=2000000 events)
	@scripts/bench.sh $(N)

build: ## the release programs, in target/release
	cargo build --release

reset: ## forget all stored data: removes ./data (or DATA_DIR); refuses while it runs
	@scripts/reset.sh
