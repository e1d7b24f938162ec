#!/usr/bin/env bash
# Prints every figure that is promised, each as a ratio to a reference in the same run, and whether it holds.
#   scripts/bench.sh [--save] [--rounds N] [--seconds S] [GROUP ...]
# GROUP is one or more of basics, chain, flows, new, rules, offload, balance, ids, wanopt; all of them without one. With --save also
# docs/numbers/DATE-HOST.json; exit 1 when a promise does not hold.
# Wants an idle machine with two CPUs or more, and 4 GiB of memory for ten million flows; takes about ten minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

install_missing dpdk dpdk-dev libdpdk-dev "$LITERALS" clang libclang-dev pkg-config python3
need_cargo
cargo build --release --locked
exec python3 scripts/bench.py "$@"
