# Everything a person needs to run: `make up`, `make test`. Each target also works from a fresh clone.
ARGS ?=
CARGO ?= cargo
TESTFLAGS ?=

.PHONY: help up test build tools clean

help: ## This list
	@echo "make up      the whole stack in the foreground: etcd, config-api, xds-pusher, Envoys, a demo shop"
	@echo "             Ctrl-C stops it; flags go through ARGS: make up ARGS='--api 127.0.0.1:9080', make up ARGS=--help"
	@echo "make test    everything that is checked: format, clippy, every test, end to end on real Envoys"
	@echo "make build   the services, meshctl and the harness"
	@echo "make tools   protoc, Envoy, etcd, iptables and the Python clients of the tests, into .tools/"
	@echo "make clean   forgets the state and logs of make up (.weft/)"

tools:
	@tests/install-tools

build:
	@tests/install-tools build
	$(CARGO) build --workspace

up: tools
	$(CARGO) build --workspace --bins
	@$(CARGO) run --quiet --package weft-tests --bin weft-up -- $(ARGS)

test: tools
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- --deny warnings
	$(CARGO) build --workspace --bins
	@status=0; skips=$${WEFT_SKIPS:-$$(mktemp)}; : >"$$skips"; \
	WEFT_SKIPS="$$skips" $(CARGO) test --workspace $(TESTFLAGS) || status=$$?; \
	tests/say-skipped "$$skips"; exit $$status

clean:
	rm -rf .weft
