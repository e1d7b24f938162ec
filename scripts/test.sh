#!/usr/bin/env bash
# Passes all tests: installs what is missing (as root, Debian packages by name), builds, runs them, says what it skipped.
#   scripts/test.sh [--lint] [--vm]
#     --lint   also the checks of format, of lints, and of licences where cargo-deny is
#     --vm     also what the test in a VM needs; without it that test runs where QEMU is there
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
. scripts/rootless.sh

lint=no vm=()
for word in "$@"; do
  case $word in
  --lint) lint=yes ;;
  --vm) vm=(--install) ;;
  *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2 && exit 2 ;;
  esac
done
install_missing dpdk libdpdk-dev "$LITERALS" clang libclang-dev pkg-config iproute2 ethtool iputils-ping curl iperf3 python3 python3-yaml procps traceroute nftables bind9-dnsutils nginx shellcheck
need_cargo

log=$(mktemp)
trap 'rm -f "$log"' EXIT
if [ $lint = yes ]; then
  echo '== format'; cargo fmt --all --check
  echo '== lints'; cargo clippy --workspace --all-targets --locked -- -D warnings
  if command -v cargo-deny >/dev/null; then echo '== licences'; cargo deny check; else echo 'SKIPPED licences: cargo-deny is not installed'; fi
fi
cargo test --workspace --locked --no-run
tests/vm/run.sh --prepare ${vm[@]+"${vm[@]}"}
# Behind this there may be no network any more, only one's own.
become_root_of_own_namespaces "$@"
echo '== tests'
cargo test --workspace --locked -- --show-output 2>&1 | tee "$log"
echo '== in a VM'
tests/vm/run.sh ${vm[@]+"${vm[@]}"} 2>&1 | tee -a "$log"
echo '== skipped'
grep '^SKIPPED' "$log" || echo 'nothing'
