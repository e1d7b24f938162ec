#!/usr/bin/env bash
# Watches a chain carry real packets: two network namespaces as hosts on either side of nfv, real TCP between them.
#   scripts/run.sh [SECONDS]    10 by default; no NIC, no huge pages; without root where the kernel lets users make namespaces
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
. scripts/rootless.sh
seconds=${1:-10}

install_missing dpdk libdpdk-dev "$LITERALS" clang libclang-dev pkg-config iproute2 ethtool iputils-ping iperf3 procps
need_cargo
cargo build --release --locked
become_root_of_own_namespaces "$@"

if [ "$(id -u)" != 0 ]; then
  echo 'SKIPPED real hosts: this kernel lets only root make namespaces. The chain between two null devices instead:'
  exec target/release/nfv run --no-pci --no-huge -m 512 -l 0,1 -- chains/forward.yaml --live --duration "$seconds"
fi

name=nfv-demo-$$
tidy() {
  [ -n "${server:-}" ] && kill "$server" 2>/dev/null
  [ -n "${dataplane:-}" ] && kill -INT "$dataplane" 2>/dev/null && wait "$dataplane"
  for host in lan wan nfv; do ip netns del "$name-$host" 2>/dev/null; done
  return 0
}
trap tidy EXIT
trap 'exit 130' INT TERM

ip netns add "$name-nfv"
for host in lan:1 wan:2; do
  side=${host%:*}; last=${host#*:}
  ip netns add "$name-$side"
  ip -n "$name-$side" link add eth0 type veth peer name "$side" netns "$name-nfv"
  # Without these, veth hands over super-packets and partial checksums.
  ip netns exec "$name-$side" ethtool -K eth0 tso off gso off tx off >/dev/null
  ip -n "$name-$side" addr add "10.99.0.$last/24" dev eth0
  ip -n "$name-$side" link set eth0 up
  ip netns exec "$name-nfv" sysctl -qw "net.ipv6.conf.$side.disable_ipv6=1"
  ip -n "$name-nfv" link set "$side" up
done

echo "lan (10.99.0.1) --- nfv: chains/firewall.yaml --- wan (10.99.0.2)"
LAN=net_af_packet0,iface=lan WAN=net_af_packet1,iface=wan \
  ip netns exec "$name-nfv" target/release/nfv run --no-pci -l 0,1 -- chains/firewall.yaml --live &
dataplane=$!
ip netns exec "$name-wan" iperf3 -s >/dev/null 2>&1 &
server=$!
for _ in $(seq 50); do ip netns exec "$name-lan" ping -c1 -W1 10.99.0.2 >/dev/null 2>&1 && break; sleep 0.1; done

ip netns exec "$name-lan" ping -c3 -i0.2 10.99.0.2
ip netns exec "$name-lan" iperf3 -c 10.99.0.2 -t "$seconds"
kill -INT "$dataplane"
wait "$dataplane"
dataplane=
