#!/usr/bin/env bash
# fuzz.sh DURATION
#
# Fuzzes every fuzz target of the project, one after the other, each for DURATION (as Go writes it: 30s).
set -euo pipefail
cd "$(dirname "$0")/.."

found=0
for package in $(go list ./...); do
    for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
        found=$((found + 1))
        printf '%s.%s\n' "$package" "$target"
        go test -run '^$' -fuzz "^$target\$" -fuzztime "$1" "$package"
    done
done
if [ "$found" -eq 0 ]; then
    printf 'error: no package has a fuzz target\n' >&2
    exit 1
fi
printf '%d fuzz targets, %s each\n' "$found" "$1"
