# Sourced by the scripts: installs Debian packages that are missing, or says which.
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
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Debian 12's own Rust is too old for this workspace, and nothing is downloaded here.
need_cargo() {
  command -v cargo >/dev/null || { echo 'cargo is missing: install Rust 1.95 or later with rustup, as a user would' >&2; exit 1; }
}
