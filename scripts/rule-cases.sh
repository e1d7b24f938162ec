#!/usr/bin/env bash
# Runs cases of Suricata's public verification suite through `nfv replay` and says which of their checks hold.
#   scripts/rule-cases.sh DIR [--json FILE] [--markdown FILE] [--only WORD] [--keep FOLDER] [--at-least PERCENT] [--verbose]
# DIR has a folder a case, each with a capture, rules and a test.yaml. One line a case, then `N passed, N failed, N not
# applicable`. A case is not applicable only for a keyword or a protocol that the IDS does not know, or for kinds of
# records that it does not write.
#   --json       also all of it as JSON
#   --markdown   brings a page up to date that lists what fails; the causes in it are written by hand and stay
#   --only       cases whose name has WORD
#   --keep       leaves chain files, logs and records there
#   --at-least   exit 1 when fewer of the applicable cases pass
#   --verbose    each check that does not hold, with what was counted
# NFV names the program; without it, it is built.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/packages.sh"

install_missing python3 python3-yaml
if [ -z "${NFV:-}" ]; then
  install_missing dpdk libdpdk-dev "$LITERALS" clang libclang-dev pkg-config
  need_cargo
  (cd "$here/.." && cargo build --release --locked)
  NFV=$(cd "$here/.." && cargo metadata --format-version 1 --no-deps | python3 -c 'import json,sys; print(json.load(sys.stdin)["target_directory"])')/release/nfv
fi
NFV=$(realpath "$NFV") exec python3 "$here/rule-cases.py" "$@"
