#!/usr/bin/env bash
# Makes virtual functions (SR-IOV) of a NIC, sets them up, and gives them to vfio-pci.
#   scripts/bind-vf.sh PF NUMBER [--mtu N] [--vlan ID] [--no-iommu]    PF: an interface, ens3f0, or a PCI address
#   scripts/bind-vf.sh --undo PF                                       gives them back, and removes them
# Each VF gets a MAC address of its own, trust (promiscuous mode, multicast) and no spoof check (it may send what it
# forwards). VFs of mlx5 and mlx4 stay with their kernel driver, where DPDK needs them.
# Without an IOMMU it stops, unless --no-iommu takes the risk: a device can then write all memory of the machine.
set -euo pipefail

# A test has a tree of its own.
sys=${SYSFS_ROOT:-/sys}
bus=$sys/bus/pci
unsafe_mode=$sys/module/vfio/parameters/enable_unsafe_noiommu_mode

fail() {
  echo "bind-vf.sh: $*" >&2
  exit 1
}

usage() {
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
}

interfaces() {
  local one
  for one in "$sys"/class/net/*; do printf ' %s' "${one##*/}"; done
}

# The PCI address of $1, an interface or an address.
address_of() {
  local device
  case $1 in
  ????:??:??.?) echo "$1" ;;
  ??:??.?) echo "0000:$1" ;;
  *)
    [ -e "$sys/class/net/$1" ] || fail "there is no interface $1; there are:$(interfaces)"
    # Some drivers have the interface a level below the device.
    device=$(readlink -f "$sys/class/net/$1/device")
    while [ "$device" != / ] && [ ! -e "$bus/devices/${device##*/}" ]; do device=$(dirname "$device"); done
    [ "$device" != / ] || fail "$1 is no device on PCI"
    echo "${device##*/}"
    ;;
  esac
}

driver_of() {
  if [ -e "$bus/devices/$1/driver" ]; then basename "$(readlink "$bus/devices/$1/driver")"; else echo 'no driver'; fi
}

# The VFs of $1, in their order.
vfs_of() {
  local number=0
  while [ -e "$bus/devices/$1/virtfn$number" ]; do
    basename "$(readlink "$bus/devices/$1/virtfn$number")"
    number=$((number + 1))
  done
}

# Gives $1 to the driver $2; without one, to that of the kernel's choice.
bind() {
  echo "${2:-}" >"$bus/devices/$1/driver_override"
  if [ -e "$bus/devices/$1/driver" ]; then echo "$1" >"$bus/devices/$1/driver/unbind"; fi
  echo "$1" >"$bus/drivers_probe"
  [ -z "${2:-}" ] || [ "$(driver_of "$1")" = "$2" ] || fail "$1 did not take $2; dmesg says why"
}

has_iommu() {
  local group
  for group in "$sys"/kernel/iommu_groups/[0-9]*; do
    [ -e "$group" ] || continue
    [ "$(cat "$group/name" 2>/dev/null)" = vfio-noiommu ] || return 0
  done
  return 1
}

prepare_vfio() {
  modprobe vfio-pci || fail "there is no module vfio-pci: Debian's cloud kernel has none, linux-image-amd64 does"
  if has_iommu; then return; fi
  [ "$risk" = taken ] || fail "there is no IOMMU. Turn it on: intel_iommu=on iommu=pt on the kernel's command line, \
VT-d or AMD-Vi in the firmware; in a VM, -device intel-iommu. Or take the risk with --no-iommu: these devices, and \
whatever drives them, can then read and write all memory of this machine"
  [ -e "$unsafe_mode" ] || fail "this kernel cannot do without an IOMMU (CONFIG_VFIO_NOIOMMU)"
  echo 'WARNING: no IOMMU: what drives these VFs can read and write all memory of this machine' >&2
  echo 1 >"$unsafe_mode"
}

# A MAC address for VF $2 of the interface $1, the same each time: 02, four bytes of the PF's, the number.
mac_of() {
  printf '02:%s:%02x\n' "$(cut -d: -f3-6 "$sys/class/net/$1/address")" "$2"
}

undo() {
  local pf vf
  pf=$(address_of "$1")
  [ -e "$bus/devices/$pf/sriov_numvfs" ] || fail "$1 ($pf) makes no VFs"
  for vf in $(vfs_of "$pf"); do echo >"$bus/devices/$vf/driver_override"; done
  echo 0 >"$bus/devices/$pf/sriov_numvfs"
  if [ -e "$unsafe_mode" ] && ! compgen -G "$bus/drivers/vfio-pci/*:*" >/dev/null; then echo 0 >"$unsafe_mode"; fi
  echo "$1 has no VFs any more"
}

# Sets up VF $2 of the interface $1 from the host's side.
set_up() {
  ip link set dev "$1" vf "$2" mac "$(mac_of "$1" "$2")"
  if [ -n "$vlan" ]; then ip link set dev "$1" vf "$2" vlan "$vlan"; fi
  ip link set dev "$1" vf "$2" trust on ||
    echo "WARNING: $1 knows no trust: VF $2 will have no promiscuous mode" >&2
  ip link set dev "$1" vf "$2" spoofchk off ||
    echo "WARNING: $1 keeps its spoof check: VF $2 can send from its own MAC address only" >&2
}

create() {
  local pf device most has interface kernel=no vf number=0 options='' lines=''
  pf=$(address_of "$1") device=$bus/devices/$pf
  [ -e "$device" ] || fail "there is no PCI device $pf"
  [ -e "$device/sriov_totalvfs" ] ||
    fail "$1 ($pf) makes no VFs: it cannot, or SR-IOV is off in the firmware of the machine or of the NIC"
  most=$(<"$device/sriov_totalvfs") has=$(<"$device/sriov_numvfs")
  [ "$2" -le "$most" ] || fail "$1 makes at most $most VFs"
  interface=$(compgen -G "$device/net/*" | head -n 1) ||
    fail "$pf is with $(driver_of "$pf"): it must be with its kernel driver, which sets up the VFs"
  interface=${interface##*/}
  case $(driver_of "$pf") in
  mlx5_core | mlx4_core) kernel=yes ;;
  *) prepare_vfio ;;
  esac
  if [ "$has" != "$2" ]; then
    [ "$has" = 0 ] || fail "$interface has $has VFs already, which others may use; to remove them: $0 --undo $1"
    # Else the kernel's driver would take each VF, only to lose it again.
    [ $kernel = yes ] || echo 0 >"$device/sriov_drivers_autoprobe"
    echo "$2" >"$device/sriov_numvfs" || fail "the kernel makes no $2 VFs; dmesg says why (no room: pci=realloc)"
    [ $kernel = yes ] || echo 1 >"$device/sriov_drivers_autoprobe"
  fi
  ip link set dev "$interface" up
  if [ -n "$mtu" ]; then ip link set dev "$interface" mtu "$mtu"; fi
  for vf in $(vfs_of "$pf"); do
    set_up "$interface" "$number"
    if [ $kernel = yes ]; then bind "$vf"; else bind "$vf" vfio-pci; fi # again: a driver reads the MAC when it starts
    options+=" -a $vf" lines+="  port$number: { device: \"$vf\" }"$'\n'
    number=$((number + 1))
  done
  [ $number -gt 0 ] || fail "$interface made no VF; dmesg says why"
  printf '%s VFs of %s are ready, with %s.\n\n' $number "$interface" "$(driver_of "$vf")"
  printf 'EAL options: %s\n\nChain file:\nports:\n%s\n' "$options" "$lines"
  printf 'To check them:      nfv doctor%s\nTo give them back:  %s --undo %s\n' "$options" "$0" "$1"
}

pf='' number='' action=create risk=refused mtu='' vlan=''
while [ $# -gt 0 ]; do
  case $1 in
  --undo) action=undo ;;
  --no-iommu) risk=taken ;;
  --mtu) mtu=${2:?--mtu takes a number} && shift ;;
  --vlan) vlan=${2:?--vlan takes a number} && shift ;;
  -h | --help) usage && exit ;;
  -*) echo "bind-vf.sh: there is no option $1" >&2 && usage >&2 && exit 2 ;;
  *) if [ -z "$pf" ]; then pf=$1; elif [ -z "$number" ]; then number=$1; else usage >&2 && exit 2; fi ;;
  esac
  shift
done
if [ -z "$pf" ]; then usage >&2 && exit 2; fi
[ "$(id -u)" = 0 ] || [ -n "${SYSFS_ROOT:-}" ] || fail "only root can do that: sudo $0 $pf $number"
case $action in
undo) undo "$pf" ;;
create)
  [[ $number =~ ^[1-9][0-9]{0,3}$ ]] || fail "how many VFs? $0 $pf 2"
  create "$pf" "$number"
  ;;
esac
