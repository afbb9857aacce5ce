#!/usr/bin/env bash
# Makes sure that OpenSSH's server is installed, for the test that asks a container engine over ssh: it starts one of its
# own. An ordinary user without it is told that the test will be skipped; CI may not go on without.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

sshd=/usr/sbin/sshd
if [ -x "$sshd" ]; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] && [ -z "${CI:-}" ]; then
    say "the test over ssh will be skipped: $sshd is not installed and you are not root; apt-get install openssh-server"
    exit 0
fi
# Debian's package starts a server for everybody, now and at each boot, unless this file is there.
if has_debian_packages && can_be_root; then
    as_root mkdir -p /etc/ssh
    as_root touch /etc/ssh/sshd_not_to_be_run
fi
"$(dirname "$0")/need.sh" "$sshd" openssh-server
