#!/usr/bin/env bash
# Feeds the parsers of bytes from outside with whatever a fuzzer thinks of: each target for a time, from its corpus on.
#   scripts/fuzz.sh [--seconds N] [TARGET ...]
# TARGET is one or more of rules, stream, http, dns, tls, wanopt; all of them without one, each for 600 seconds. An input that
# fails is left in fuzz/artifacts, and the exit is 1. `cargo fuzz run TARGET` does the same with a nightly compiler and its
# sanitizers; here the coverage of the pinned one is enough, as the parsers have no unsafe code.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

seconds=600 targets=()
while [ $# -gt 0 ]; do
  case $1 in
  --seconds) seconds=$2 && shift ;;
  rules | stream | http | dns | tls | wanopt) targets+=("$1") ;;
  *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2 && exit 2 ;;
  esac
  shift
done
[ ${#targets[@]} -gt 0 ] || targets=(rules stream http dns tls wanopt)
install_missing dpdk libdpdk-dev "$LITERALS" clang libclang-dev pkg-config
need_cargo

host=$(rustc -vV | sed -n 's/^host: //p')
# What cargo-fuzz passes, without a sanitizer; overflows and debug assertions fail as they do in tests.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Coverflow-checks"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/fuzz
# With a target named, build scripts and macros are built without these flags.
cargo build --release --manifest-path fuzz/Cargo.toml --target "$host" $(printf -- '--bin %s ' "${targets[@]}")
failed=0
for target in "${targets[@]}"; do
  found=$(mktemp -d)
  mkdir -p "fuzz/artifacts/$target"
  echo "== $target"
  "$CARGO_TARGET_DIR/$host/release/$target" -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=2048 \
    -artifact_prefix="fuzz/artifacts/$target/" -print_final_stats=1 -verbosity=0 "$found" "fuzz/corpus/$target" 2>&1 | tail -n 12 || failed=1
  rm -r "$found"
done
exit $failed
