# shellcheck shell=bash
# Finding the programs that a script needs, or installing them. Sourced, never run.

# Writes a line to standard error, after the name of the script that runs.
say() {
    printf '%s: %s\n' "$0" "$*" >&2
}

# Says what is wrong in one sentence and ends the script.
die() {
    say "$*"
    exit 1
}

has() {
    command -v "$1" >/dev/null 2>&1
}

# Whether packages can be installed here without asking anyone: Debian or a relative of it, as root.
can_install() {
    [ "$(id -u)" -eq 0 ] && has apt-get
}

# install_packages PACKAGE...
#
# Debian starts a server as soon as its package is installed. A policy-rc.d that answers 101 forbids that; it is there
# only while apt-get runs, and one that an administrator put there is left alone.
install_packages() (
    policy=/usr/sbin/policy-rc.d
    log=$(mktemp)
    made=
    trap 'rm -f "$log" $made' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    if [ ! -e "$policy" ]; then
        made=$policy
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    say "installing $*"
    export DEBIAN_FRONTEND=noninteractive
    if ! { apt-get -qq -o DPkg::Lock::Timeout=120 update &&
        apt-get -qq -o DPkg::Lock::Timeout=120 install --no-install-recommends "$@"; } >"$log" 2>&1; then
        cat "$log" >&2
        exit 1
    fi
)

# ensure PROGRAM PACKAGE...: true if the program is there or could be installed from these packages.
ensure() {
    local program=$1
    shift
    has "$program" || { can_install && install_packages "$@" && has "$program"; }
}
