# The everyday commands. Each is one line that also works without `just`; `just --list` shows them.

# List the commands.
default:
    @just --list

# Run sandbox and gateway in one process, with demo data, and print grpcurl lines to paste.
dev *arguments:
    cargo run -- dev {{ arguments }}

# Run the simulated SuperOffice alone.
sandbox *arguments:
    cargo run -p superoffice-sandbox -- {{ arguments }}

# Run all tests, or those whose name contains a word: `just test ticket`.
test *filter:
    cargo test --workspace {{ filter }}

# Format Rust and proto files.
fmt:
    cargo fmt --all
    "$(tools/get-tools buf)/buf" format -w

# Check format, lints (with and without the sandbox) and documentation: warnings are errors.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo clippy -p tenant-gateway --no-default-features -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

# Lint the contract in proto/ and check its format.
lint-proto:
    "$(tools/get-tools buf)/buf" lint
    "$(tools/get-tools buf)/buf" format -d --exit-code

# Build the book in docs/ into target/book, and list sentences that are hard to read.
book:
    tools/check-book
    tools/plain-words

# Write the generated parts of docs/reference/ anew.
reference:
    UPDATE_REFERENCE=1 cargo test --test reference

# Check dependencies against deny.toml (`cargo install cargo-deny --locked`; advisories need the network).
deny *checks:
    cargo deny --workspace check {{ checks }}

# Fuzz for two minutes, or for so many seconds in all, every target or those named: `just fuzz 600 jwt config`.
fuzz *arguments:
    tools/fuzz {{ arguments }}

# Run everything that a change must pass.
ci:
    .ci/run
