# Shared by the set-up scripts: progress lines and installing Debian packages when they are missing.

say() { printf '\033[1m== %s\033[0m\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# need_packages PACKAGE...: install by apt-get, from the sources configured on this machine; needs root.
need_packages() {
    [ "$#" -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "please install: $* (apt-get is not here to do it)"
    [ "$(id -u)" = 0 ] || die "please install as root: apt-get install $*"
    say "installing Debian packages: $*"
    local apt="apt-get -qq -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 --no-install-recommends"
    export DEBIAN_FRONTEND=noninteractive
    $apt install "$@" >/dev/null 2>&1 && return 0
    say "refreshing the package lists"
    apt-get -qq update >&2 || die "apt-get update failed"
    local output
    output=$($apt install "$@" 2>&1) || { echo "$output" >&2; die "apt-get could not install: $*"; }
}

# without_services COMMAND...: packages installed meanwhile don't start their daemons (the tests start their own).
without_services() {
    local policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then "$@"; return; fi
    trap "rm -f $policy" EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    "$@"
    rm -f "$policy"
    trap - EXIT
}

# have COMMAND: is it on PATH or in a system folder?
have() { PATH="$PATH:/usr/sbin:/sbin:/usr/local/sbin" command -v "$1" >/dev/null 2>&1; }
