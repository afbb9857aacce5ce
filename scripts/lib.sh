# shellcheck shell=bash
# What the scripts here share. Source it; it changes nothing by itself.
#
# DALIRUN_SCRIPT_ROOT stands before every absolute path that a script looks at. It is empty except in
# scripts/engine_test.sh and podman_test.sh, which put a made-up machine there.
root=${DALIRUN_SCRIPT_ROOT:-}

# Everything but a script's result goes to stderr: base-image.sh is read by command substitution.
say() { printf '%s\n' "$*" >&2; }

# 3 is dalirun's own exit code for "the environment lacks something".
die() {
    printf 'error: %s\n' "$*" >&2
    exit 3
}

can_be_root() { [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "this needs root and there is no sudo; run as root: $*"
    fi
}

# True on Debian, Ubuntu and what calls itself like them.
has_debian_packages() {
    command -v apt-get >/dev/null &&
        grep -Eqs '^(ID|ID_LIKE)=.*(debian|ubuntu)' "$root/etc/os-release"
}

# apt-get waits for dpkg's lock when told so, but not for the one of its package lists: where two lanes of the tests install
# something, this script's own file is what they wait for each other with. Another apt-get may be at work on a machine that
# has just booted.
apt_get() {
    (
        flock 8
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 "$@" >&2
    ) 8<"${BASH_SOURCE[0]}"
}

# A list that cannot be had (some third party's, say) need not stop what comes next.
update_package_lists() {
    apt_get update || say "apt-get update failed: going on with the package lists that are here"
}

# install_packages PACKAGE...: from the distribution, without taking any other package away.
install_packages() {
    apt_get install -y --no-install-recommends --no-remove "$@"
}
