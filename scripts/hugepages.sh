#!/usr/bin/env bash
# Huge pages for DPDK: shows, reserves and mounts them, and removes what dead runs left.
#   scripts/hugepages.sh                    show what there is
#   scripts/hugepages.sh reserve [MIB]      see that each NUMA node has MIB (1024) of them, and mount them
#       --node N   on this node only        --size 1G   in pages of 1 GiB, not 2 MiB
#   scripts/hugepages.sh clean              remove the files of dead runs
#   scripts/hugepages.sh --undo             put back what `reserve` found: the counts, and no mount
# Nothing of this outlives a reboot; docs/hugepages.md says how to make it.
set -euo pipefail

nodes=/sys/devices/system/node
record=/run/nfv-hugepages # what `reserve` changed: `mount DIRECTORY`, or `pages FILE COUNT-BEFORE`

fail() {
  echo "hugepages.sh: $*" >&2
  exit 1
}

usage() {
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
}

need_root() {
  [ "$(id -u)" = 0 ] || fail "only root can do that: sudo $0 $1"
}

# Directories of hugetlbfs, each with its options.
mounts() {
  awk '$3 == "hugetlbfs" { print $2, $4 }' /proc/mounts
}

# Whether pages of $1 KiB are mounted. A mount that names no size has the kernel's default.
is_mounted() {
  mounts | awk -v kib="$1" -v default="$(awk '/^Hugepagesize:/ { print $2 }' /proc/meminfo)" '
    {
      size = default
      if (match($2, /pagesize=[0-9]+[KMG]/)) {
        text = substr($2, RSTART + 9, RLENGTH - 9)
        size = (text + 0) * (text ~ /G/ ? 1048576 : text ~ /M/ ? 1024 : 1)
      }
      if (size == kib) found = 1
    }
    END { exit !found }'
}

show() {
  local pool kib total node found=no
  for pool in "$nodes"/node[0-9]*/hugepages/hugepages-*kB; do
    [ -e "$pool/nr_hugepages" ] || continue
    total=$(<"$pool/nr_hugepages")
    [ "$total" -gt 0 ] || continue
    found=yes kib=${pool##*hugepages-} kib=${kib%kB} node=${pool#"$nodes/"}
    echo "${node%%/*}: $(<"$pool/free_hugepages") of $total pages of $((kib / 1024)) MiB are free"
  done
  [ $found = yes ] || echo "no huge page is reserved; to have 1 GiB of them on each node: $0 reserve"
  mounts | sed 's/ .*//; s/^/mounted at /'
  [ -n "$(mounts)" ] || echo "no hugetlbfs is mounted"
}

# Sees that node $3, or each node, has $1 MiB in pages of $2 KiB.
reserve() {
  local mib=$1 kib=$2 only=$3 pages=$((($1 * 1024 + $2 - 1) / $2)) pool before has number directory found=no
  need_root reserve
  [ -d "/sys/kernel/mm/hugepages/hugepages-${kib}kB" ] || fail "this kernel has no pages of $((kib / 1024)) MiB"
  for pool in "$nodes"/node[0-9]*/hugepages/"hugepages-${kib}kB"/nr_hugepages; do
    [ -e "$pool" ] || continue
    number=${pool#"$nodes/node"} number=${number%%/*}
    if [ -n "$only" ] && [ "$only" != "$number" ]; then continue; fi
    found=yes before=$(<"$pool")
    [ "$before" -ge "$pages" ] && continue # the more is somebody else's, and stays
    grep -qs "^pages $pool " "$record" || echo "pages $pool $before" >>"$record"
    echo "$pages" >"$pool"
    has=$(<"$pool")
    [ "$has" -ge "$pages" ] ||
      fail "node $number had room for $has of $pages pages: ask for less, or reserve at boot (docs/hugepages.md)"
  done
  [ $found = yes ] || fail "there is no NUMA node ${only:-with huge pages}"
  if ! is_mounted "$kib"; then
    directory=/dev/hugepages
    [ "$kib" = 2048 ] || directory=/dev/hugepages-$((kib / 1024))M
    mkdir -p "$directory"
    mount -t hugetlbfs -o "pagesize=$((kib / 1024))M" nodev "$directory"
    echo "mount $directory" >>"$record"
  fi
  show
}

# Removes EAL's files that no process holds: a live one has its files locked, or at least mapped.
clean() {
  local file removed=0 kept=0
  while read -r directory _; do
    for file in "$directory"/*map_[0-9]*; do
      if [[ ! ${file##*map_} =~ ^[0-9]+$ ]]; then continue; fi # nothing there, or no file of EAL's
      if grep -qsE -- " $file\$" /proc/[0-9]*/maps; then
        kept=$((kept + 1))
      elif flock -n "$file" rm -f -- "$file"; then
        removed=$((removed + 1))
      else
        kept=$((kept + 1))
      fi
    done
  done < <(mounts)
  echo "files of dead runs removed: $removed; files in use: $kept"
}

undo() {
  local what path before
  need_root --undo
  clean
  if [ -e "$record" ]; then
    while read -r what path before; do
      case $what in
      mount) umount "$path" || fail "stop what uses $path first" ;;
      pages) echo "$before" >"$path" ;;
      esac
    done <"$record"
    rm "$record"
  fi
  show
}

command=${1:-show}
[ $# -eq 0 ] || shift
case $command in
show) show ;;
clean) clean ;;
--undo) undo ;;
-h | --help) usage ;;
reserve)
  mib=1024 kib=2048 node=
  while [ $# -gt 0 ]; do
    case $1 in
    --node) node=${2:?--node takes a number} && shift ;;
    --size)
      case ${2:?--size takes 2M or 1G} in
      2M) kib=2048 ;;
      1G) kib=1048576 ;;
      *) fail "--size $2: it is 2M or 1G" ;;
      esac
      shift
      ;;
    *)
      [[ $1 =~ ^[1-9][0-9]{0,8}$ ]] || fail "reserve $1: that is no number of MiB"
      mib=$1
      ;;
    esac
    shift
  done
  reserve "$mib" "$kib" "$node"
  ;;
*)
  echo "hugepages.sh: there is no command $command" >&2
  usage >&2
  exit 2
  ;;
esac
