#!/usr/bin/env bash
# need.sh COMMAND PACKAGE...
#
# Makes sure that COMMAND is there: where it is not, says so and installs PACKAGE... from Debian's or Ubuntu's packages.
# Exits 3 where that cannot be done.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

[ $# -ge 2 ] || die "usage: need.sh COMMAND PACKAGE..."
command=$1
shift
if command -v "$command" >/dev/null; then
    exit 0
fi
has_debian_packages || die "$command is not installed; install it with this system's packages (Debian calls them: $*)"
can_be_root || die "$command is not installed; as root: apt-get install $*"
say "$command is not installed: installing $* with apt-get"
update_package_lists
install_packages "$@" || die "apt-get could not install $*; its own words are above"
command -v "$command" >/dev/null || die "$command is still not there after apt-get installed $*"
