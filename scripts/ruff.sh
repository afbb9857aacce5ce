#!/usr/bin/env bash
# ruff.sh ARGUMENT...
#
# Runs ruff, of one fixed version, from a virtual environment of its own under .task/ that is made at the first call.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

version=0.17.6
cd "$(dirname "$0")/.."
venv=.task/ruff-$version

if ! [ -x "$venv/bin/ruff" ]; then
    # Debian splits these modules off python3, so that there may be a python3 which cannot make an environment.
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        has_debian_packages || die "python3 with its venv module is not installed; install it with this system's packages"
        can_be_root || die "python3 with its venv module is not installed; as root: apt-get install python3-venv"
        say "python3 with its venv module is not installed: installing python3-venv with apt-get"
        update_package_lists
        install_packages python3-venv || die "apt-get could not install python3-venv; its own words are above"
    fi
    mkdir -p .task
    # Made beside its place and renamed, so that an interrupted call leaves no half environment behind.
    new=$(mktemp -d -p .task ruff.XXXXXX)
    trap 'rm -rf "$new"' EXIT
    python3 -m venv "$new"
    "$new/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "ruff==$version" ||
        die "ruff $version could not be installed with pip; its own words are above"
    mv -T "$new" "$venv" 2>/dev/null || [ -x "$venv/bin/ruff" ]
fi
exec "$venv/bin/ruff" "$@"
