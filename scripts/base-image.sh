#!/usr/bin/env bash
# base-image.sh [NAME]
#
# Prints the base image that the local images are built on: debian:bookworm-slim where it is here or can be pulled, else
# NAME (dalirun/debian-base:bookworm), made from Debian's packages by debootstrap once. DALIRUN_BASE_IMAGE overrides both.
# A tag that a user may have is never written.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

official=debian:bookworm-slim
made=${1:-dalirun/debian-base:bookworm}
pull_seconds=${DALIRUN_PULL_SECONDS:-180}

use() {
    printf '%s\n' "$1"
    exit 0
}

is_here() { docker image inspect "$1" >/dev/null 2>&1; }

# The mirror that this machine's own packages come from, if it is a Debian; else nothing, and debootstrap takes its default.
mirror() {
    if [ -n "${DALIRUN_DEBIAN_MIRROR:-}" ]; then
        printf '%s\n' "$DALIRUN_DEBIAN_MIRROR"
        return
    fi
    apt-get indextargets --format "\$(LABEL) \$(COMPONENT) \$(REPO_URI)" 'Created-By: Packages' 2>/dev/null |
        sed -n 's/^Debian main //p' | head -n 1
}

# Called by the trap below.
# shellcheck disable=SC2317
clean() {
    # debootstrap leaves these mounted when it is killed; removing through them would reach the machine's own.
    as_root umount -q "$work"/root/{proc,sys,dev/pts} 2>/dev/null || true
    as_root rm -rf --one-file-system "$work"
}

make_image() {
    local keyring=/usr/share/keyrings/debian-archive-keyring.gpg mirror
    has_debian_packages || die "$official cannot be pulled, and only Debian and Ubuntu can make a base image from packages;" \
        "pull it by another way, or name a Debian bookworm image in DALIRUN_BASE_IMAGE"
    can_be_root || die "$official cannot be pulled, and making a base image from Debian's packages needs root; run this once as root," \
        "or name a Debian bookworm image in DALIRUN_BASE_IMAGE"
    if ! [ -x /usr/sbin/debootstrap ] || ! [ -r "$keyring" ]; then
        say "installing debootstrap and debian-archive-keyring from this system's packages"
        update_package_lists
        install_packages debootstrap debian-archive-keyring ||
            die "apt-get could not install debootstrap; its own words are above"
    fi

    # /tmp is often mounted nodev or in memory, where debootstrap refuses to work.
    work=$(mktemp -d -p "${TMPDIR:-/var/tmp}" dalirun-base.XXXXXX)
    trap clean EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    mirror=$(mirror)
    say "making $made from Debian's packages (about half a minute)"
    if ! as_root /usr/sbin/debootstrap --variant=minbase --include=ca-certificates --keyring="$keyring" \
        bookworm "$work/root" ${mirror:+"$mirror"} >"$work/log" 2>&1; then
        tail -n 20 "$work/log" >&2
        die "debootstrap could not make a Debian bookworm from ${mirror:-its default mirror}; another can be named in DALIRUN_DEBIAN_MIRROR"
    fi
    # What a running container gets from the container engine, and packages that are unpacked already, stay out.
    as_root tar -C "$work/root" --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' \
        --exclude='./var/cache/apt/archives/*.deb' --exclude='./var/lib/apt/lists/*' -c . |
        docker import --change 'CMD ["bash"]' --message 'debootstrap minbase bookworm' - "$made" >/dev/null ||
        die "the container engine did not take the base image"
}

if [ -n "${DALIRUN_BASE_IMAGE:-}" ]; then
    use "$DALIRUN_BASE_IMAGE"
fi
if ! command -v docker >/dev/null; then
    say "Docker's client is not installed: whether $official can be pulled is left for dalirun to see"
    use "$official"
fi
if is_here "$official"; then
    use "$official"
fi
# Before a pull: images that were built on it stay valid, and a machine that cannot pull does not try every time.
if is_here "$made"; then
    use "$made"
fi
say "pulling $official"
if timeout "$pull_seconds" docker pull --quiet "$official" >/dev/null; then
    use "$official"
fi
say "$official cannot be pulled"
make_image
use "$made"
