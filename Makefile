# `make run` and `make test` are all a newcomer needs; the rest is for those who work on the bridge.
.PHONY: run test conformance bench lint fmt doc upstreams bless fuzz

# The bridge with its embedded defaults: loopback, SQLite, a generated admin key, a demo server.
run:
	cargo run --release --locked --package paperbot-api --bin paperbot-mcpd -- serve

# Installs what the tests need and runs every test there is.
test:
	tests/run.sh

# The pinned real MCP servers of the end-to-end tests.
upstreams:
	tests/install.sh upstreams

# The official conformance suites, directly at our fixture and through the bridge; writes docs/conformance.md.
conformance:
	tests/install.sh node conformance/released conformance/next
	cargo build --workspace --bins --locked
	tests/conformance/run.py --write

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --features paperbot-broker/measuring --locked -- --deny warnings

fmt:
	cargo fmt --all

doc:
	RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps --locked

# Rewrites the generated pages and tables (docs/API.md, docs/ERRORS.md, the CLI's exit codes).
bless:
	UPDATE_GENERATED=1 cargo test --package paperbot-api --locked generated

# Measures against a direct call and the cheapest possible broker; see docs/benchmarks.md.
# `make bench ARGS="--only calls,soak"` runs some sections, `ARGS=--quick` only shows that they work.
bench:
	tests/bench/run.sh $(ARGS)

# Every fuzz target for SECONDS each (nightly, cargo-fuzz); see docs/security.md. Their seeds run in `make test` too.
SECONDS ?= 600
fuzz:
	fuzz/run.sh $(SECONDS)
