# shellcheck shell=bash
# Sourced by the scripts: installs Debian packages that are missing, or says which. What of them is a service does not run:
# tests start their own.
#
# What looks for literals: Hyperscan where it is. Vectorscan 5.4.9, its portable fork, has no faster scan, and misses one of two
# literals at times that stands in the last bytes; nfv then looks for few literals by itself. Both cannot be installed.
# shellcheck disable=SC2034 # used by who sources this
LITERALS=libvectorscan-dev
if ! dpkg-query -W -f '${Status}' $LITERALS 2>/dev/null | grep -q 'ok installed'; then
  case $(dpkg --print-architecture 2>/dev/null) in amd64 | i386) LITERALS=libhyperscan-dev ;; esac
fi

install_missing() {
  local missing=()
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  if [ "$(id -u)" != 0 ]; then
    echo "missing packages; as root:  apt install ${missing[*]}" >&2
    return 0
  fi
  apt-get update -qq
  local policy=/usr/sbin/policy-rc.d status=0
  if [ -e $policy ]; then
    policy=
  else
    printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy
  fi
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || status=$?
  [ -z "$policy" ] || rm -f "$policy"
  # Nor after the next start of the machine.
  case " ${missing[*]} " in *' nginx '*) systemctl -q disable nginx 2>/dev/null || true ;; esac
  return $status
}

# Debian 12's own Rust is too old for this workspace, and nothing is downloaded here.
need_cargo() {
  command -v cargo >/dev/null || { echo 'cargo is missing: install Rust 1.95 or later with rustup, as a user would' >&2; exit 1; }
}
