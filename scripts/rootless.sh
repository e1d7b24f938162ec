# shellcheck shell=bash
# Sourced by the scripts: makes whoever is not root the root of namespaces of its own, where the kernel lets it.
# Starts the script again in there; returns when it is root already, or cannot be.
become_root_of_own_namespaces() {
  [ "$(id -u)" != 0 ] || return 0
  unshare --user --map-root-user --net --mount sh -c 'mount -t tmpfs none /run' 2>/dev/null || return 0
  echo 'not root: in namespaces of its own'
  exec unshare --user --map-root-user --net --mount \
    sh -c 'mount -t tmpfs none /run && ip link set lo up && exec "$@"' sh "$0" "$@"
}
