#!/bin/bash
# Install what the end-to-end tests use, where it is missing and we may. Run by `make roots`; safe to repeat.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

missing=()
want() { have "$1" || missing+=("$2"); }
want busybox busybox-static
want mmdebstrap mmdebstrap
want unshare util-linux
want runc runc
want containerd containerd
want ctr containerd
want newuidmap uidmap
want make make
want git git
# Clients of the runtime, and what they need for bridges and published ports.
want ip iproute2
want iptables iptables
want curl curl
want dockerd docker.io
want podman podman
want conmon conmon
want buildah buildah
[ -e /usr/lib/cni/bridge ] || missing+=(containernetworking-plugins)

if [ "${#missing[@]}" -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && have apt-get; then
        without_services need_packages "${missing[@]}"
    else
        say "not installed: ${missing[*]} (needs root and apt-get); the tests that use them will be skipped"
    fi
fi

# mmdebstrap takes the package sources apt is configured with, for which apt needs its lists.
if [ "$(id -u)" = 0 ] && have apt-get && ! apt-get indextargets --format '$(ORIGIN)' 'Created-By: Packages' 2>/dev/null | grep -q Debian; then
    say "refreshing the package lists"
    apt-get -qq update >&2 || say "apt-get update failed; the Debian root may not be made"
fi
