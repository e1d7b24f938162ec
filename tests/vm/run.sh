#!/usr/bin/env bash
# Carries packets through virtual functions of emulated NICs (igb with SR-IOV), in a VM: QEMU without KVM, Debian's kernel.
# The guest runs what `cargo build` has built; the hosts are network namespaces outside the VM.
#   tests/vm/run.sh [--install] [--prepare] [WORD]...
#     --install   as root, installs the Debian packages that are missing; without it the test is skipped then
#     --prepare   only gets from the network what it needs, and ends
#     WORD        only the cases whose name has one of the words
# The last line is `N passed, N failed`, or `SKIPPED vm: why`. What the next time needs again is kept in target/vm.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/packages.sh
. scripts/rootless.sh

target=${CARGO_TARGET_DIR:-target}
kernel=$target/vm/kernel
# igb makes the VFs, vfio-pci takes them; tun is for twins and net_tap, the rest for the rules of net_tap.
modules=(igb igbvf vfio-pci vfio_iommu_type1 tun veth sch_ingress sch_multiq cls_flower cls_bpf act_bpf act_gact act_mirred act_skbedit)

skip() {
  echo "SKIPPED vm: $1"
  exit 0
}

# Something is not installed. Whoever asked for that wants the test, and no reason why there is none.
lack() {
  if [ "$install" = yes ]; then echo "vm: $1" >&2 && exit 1; fi
  skip "$1"
}

has_qemu() {
  command -v qemu-system-x86_64 >/dev/null && qemu-system-x86_64 -device help 2>/dev/null | grep -q '"igb"'
}

# The QEMU of Debian 12 is too old for igb; that of its backports is not. They are on the mirror that apt uses already, and
# are asked for this once: the machine's list of sources stays as it is.
install_qemu() {
  if has_qemu; then return; fi
  local list='' options=(-o Acquire::Retries=3 -o APT::Get::List-Cleanup=0)
  if [ "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" = bookworm ]; then
    list=$(mktemp --suffix=.list)
    # shellcheck disable=SC2016 # apt's own variables
    apt-get indextargets --format '$(SITE) $(CODENAME)' |
      awk '$2 == "bookworm" && !done++ { print "deb " $1 " bookworm-backports main" }' >"$list"
    chmod 644 "$list"
    options+=(-o "Dir::Etc::sourcelist=$list")
  fi
  timeout 300 apt-get "${options[@]}" update -qq
  DEBIAN_FRONTEND=noninteractive timeout 600 apt-get "${options[@]}" install -y -qq --no-install-recommends \
    ${list:+-t bookworm-backports} qemu-system-x86 >/dev/null
  [ -z "$list" ] || rm -f "$list"
}

# The kernel that Debian has for such a machine, and the modules that the guest loads. It is unpacked, never installed.
get_kernel() {
  local package version temporary
  package=$(apt-cache depends linux-image-amd64 2>/dev/null | awk '$1 == "Depends:" { print $2; exit }') || true
  # An older one serves where apt knows none, or cannot get it.
  if [ -e "$kernel/vmlinux" ] && [ "${package:=$(cat "$kernel/name")}" = "$(cat "$kernel/name")" ]; then return; fi
  [ -n "$package" ] || lack 'apt knows no linux-image-amd64: apt-get update'
  temporary=$(mktemp -d)
  (cd "$temporary" && timeout 300 apt-get -qq -o Acquire::Retries=3 -o APT::Sandbox::User=root download "$package") ||
    { rm -rf "$temporary" && lack "there is no network to get $package from"; }
  dpkg -x "$temporary"/*.deb "$temporary/root"
  version=$(basename "$temporary"/root/lib/modules/*)
  depmod -b "$temporary/root" "$version"
  rm -rf "$kernel" && mkdir -p "$kernel/lib/modules/$version"
  for module in "${modules[@]}"; do
    # One that is built in needs no file.
    modprobe -d "$temporary/root" -S "$version" --show-depends "$module" | awk '$1 == "insmod" { print $2 }'
  done | sort -u | xargs cp -t "$kernel/lib/modules/$version"
  cp "$temporary/root/lib/modules/$version"/modules.{builtin,builtin.modinfo,order} "$kernel/lib/modules/$version"
  depmod -b "$kernel" "$version"
  python3 tests/vm/image.py unpack "$temporary/root/boot/vmlinuz-$version" "$kernel/vmlinux"
  rm -rf "$temporary"
  echo "$package" >"$kernel/name"
}

install=no prepare=no words=()
for word in "$@"; do
  case $word in
  --install) install=yes ;;
  --prepare) prepare=yes ;;
  -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" && exit ;;
  -*) echo "run.sh: there is no option $word" >&2 && exit 2 ;;
  *) words+=("$word") ;;
  esac
done
[ "$(uname -m)" = x86_64 ] || skip 'the guest is an x86_64 machine'
needed=(busybox-static kmod python3 iproute2 iputils-ping curl dpdk binutils)
if [ "$install" = yes ] && [ "$(id -u)" = 0 ]; then
  install_missing "${needed[@]}"
  install_qemu
fi
has_qemu || lack 'there is no QEMU that emulates igb (8.0 or later; on Debian 12 that of backports); as root, --install gets it'
for package in "${needed[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || lack "$package is not installed"
done
get_kernel
[ "$prepare" = no ] || exit 0
need_cargo
cargo build --locked
# Behind this there may be no network any more, only one's own.
become_root_of_own_namespaces "$@"
[ "$(id -u)" = 0 ] || skip 'this kernel lets only root make namespaces'
[ -w /dev/net/tun ] || { mkdir -p /dev/net && mknod /dev/net/tun c 10 200; } 2>/dev/null || skip 'there is no /dev/net/tun'
python3 tests/vm/image.py guest "$target/debug/nfv" "$kernel" "$target/vm/guest.cpio"
exec timeout 900 python3 tests/vm/cases.py "$kernel/vmlinux" "$target/vm/guest.cpio" ${words[@]+"${words[@]}"}
