#!/usr/bin/env bash
# Passes all tests: installs what is missing (as root, Debian packages by name), builds, runs them, says what it skipped.
#   scripts/test.sh [--lint]    with --lint also the checks of format, of lints, and of licences where cargo-deny is
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
. scripts/rootless.sh

install_missing dpdk libdpdk-dev clang libclang-dev pkg-config iproute2 ethtool iputils-ping curl iperf3 python3 procps traceroute nftables bind9-dnsutils nginx
need_cargo

if [ "${1:-}" = --lint ]; then
  echo '== format'; cargo fmt --all --check
  echo '== lints'; cargo clippy --workspace --all-targets --locked -- -D warnings
  if command -v cargo-deny >/dev/null; then echo '== licences'; cargo deny check; else echo 'SKIPPED licences: cargo-deny is not installed'; fi
fi
cargo test --workspace --locked --no-run
# Behind this there may be no network any more, only one's own.
become_root_of_own_namespaces "$@"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo '== tests'
cargo test --workspace --locked -- --show-output 2>&1 | tee "$log"
echo '== skipped'
grep '^SKIPPED' "$log" || echo 'nothing'
