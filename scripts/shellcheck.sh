#!/usr/bin/env bash
# Checks the shell scripts of the project with shellcheck, which is installed where it is missing and root can do so. An
# ordinary user without it is told that nothing was checked; CI may not go on without.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

cd "$(dirname "$0")/.."
if ! command -v shellcheck >/dev/null && [ "$(id -u)" -ne 0 ] && [ -z "${CI:-}" ]; then
    say "skipped: shellcheck is not installed and you are not root; apt-get install shellcheck"
    exit 0
fi
scripts/need.sh shellcheck shellcheck
shellcheck --external-sources scripts/*.sh .ci/run
printf 'ok  \tshellcheck\t%d scripts\n' "$(find scripts .ci -type f | wc -l)"
