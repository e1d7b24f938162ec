#!/usr/bin/env bash
# Drives nfv run with dpdk-testpmd over net_memif on this machine, and prints offered, received, lost, Mpps.
#   scripts/pktgen/memif.sh [txonly|flowgen] [SECONDS] [CONFIG]    txonly, 5, chains/forward.yaml by default
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/packages.sh
mode=${1:-txonly}; seconds=${2:-5}; config=${3:-chains/forward.yaml}

install_missing dpdk dpdk-dev libdpdk-dev "$LITERALS" clang libclang-dev pkg-config python3
need_cargo
cargo build --release --locked

folder=$(mktemp -d)
generator=; dataplane=
tidy() {
  [ -n "$generator" ] && kill "$generator" 2>/dev/null
  [ -n "$dataplane" ] && kill "$dataplane" 2>/dev/null
  wait 2>/dev/null
  rm -rf "$folder"
}
trap tidy EXIT
memory=(--no-huge -m 512)
[ "$(awk '/HugePages_Free/ {print $2}' /proc/meminfo)" -ge 512 ] && memory=()

# nfv is the server; the rings are as long as the longest burst that the generator makes at once.
link="socket=$folder/memif.sock,socket-abstract=no,bsize=2048,rsize=11"
LAN="net_memif0,role=server,$link" WAN='net_null1,no-rx=1' NFV_LOG=error target/release/nfv run --lcores '0@0,1@1' --no-pci "${memory[@]}" \
  -- "$config" --control "$folder/nfv.sock" > "$folder/nfv.txt" &
dataplane=$!
for _ in $(seq 100); do [ -S "$folder/nfv.sock" ] && break; sleep 0.1; done

flows=(); [ "$mode" = txonly ] && flows=(--txonly-multi-flow --txpkts=60)
mkfifo "$folder/stop"
dpdk-testpmd --lcores '0@0,1@0' --no-pci --file-prefix "pktgen$$" "${memory[@]}" --vdev "net_memif0,role=client,$link" \
  -- --forward-mode="$mode" --auto-start --nb-cores=1 --total-num-mbufs=16384 "${flows[@]}" \
  < "$folder/stop" > "$folder/testpmd.txt" 2>/dev/null &
generator=$!
exec 3> "$folder/stop"
sleep "$seconds"
echo >&3
exec 3>&-
wait "$generator" || true
generator=
sleep 0.2
target/release/nfv ctl stats --json --control "$folder/nfv.sock" > "$folder/stats.json"
target/release/nfv ctl quit --control "$folder/nfv.sock"
wait "$dataplane"
dataplane=

python3 - "$folder" "$seconds" "$mode" <<'P'
import json, re, sys
folder, seconds, mode = sys.argv[1], float(sys.argv[2]), sys.argv[3]
with open(f"{folder}/testpmd.txt") as file:
    text = file.read()
# The last table is that of all ports together, at the stop.
offered = max(map(int, re.findall(r"TX-packets:\s+(\d+)", text)), default=0)
more = max(map(int, re.findall(r"TX-dropped:\s+(\d+)", text)), default=0)
with open(f"{folder}/stats.json") as file:
    counters = json.load(file)["counters"]
total = lambda metric: sum(c["value"] for c in counters if c["metric"] == metric)
received, sent = total("received_packets"), total("sent_packets")
print(f"{mode}: offered {offered}, received {received}, sent {sent}, lost {offered - sent}, {sent / seconds / 1e6:.2f} Mpps; "
      f"the generator made {more} more, for which the ring had no room")
sys.exit(0 if offered > 0 and received > 0 else 1)
P
