#!/usr/bin/env bash
# test.sh LAYER... [-- LAYER...]
#
# Runs layers of the tests, each a task of Taskfile.yml, and tells of each how it went and how long it took. What stands
# before and after "--" are two lanes that run at the same time: one mostly waits for the container engine and the network,
# the other keeps the processor busy. A failed layer stops no other; the exit code is the first failed layer's.
set -euo pipefail
cd "$(dirname "$0")/.."

logs=.task/test
rm -rf "$logs"
mkdir -p "$logs"
touch "$logs/results"

# A layer's output is shown whole when the layer has ended, so that two lanes do not mix theirs.
layer() {
    local name=$1 log=$logs/${1//:/-}.log start=$SECONDS code=0 verdict=ok
    printf '      %-18s started; its output follows when it ends (%s)\n' "$name" "$log"
    go tool task --exit-code "$name" >"$log" 2>&1 || code=$?
    if [ "$code" -ne 0 ]; then
        verdict=FAIL
    fi
    exec 9>"$logs/lock"
    flock 9
    printf '\n=== %s\n' "$name"
    cat "$log"
    printf '%-4s  %-18s %4d s\n' "$verdict" "$name" "$((SECONDS - start))" | tee -a "$logs/results"
    printf '%s\n' "$code" >>"$logs/codes"
    exec 9>&-
}

lane() {
    local name
    for name in "$@"; do
        layer "$name"
    done
}

first=() second=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    first+=("$1")
    shift
done
if [ $# -gt 0 ]; then
    second=("${@:2}")
fi

# Each lane is a process group of its own, so that a signal to this script alone still ends everything under it.
set -m
lane "${first[@]}" </dev/null &
lanes=($!)
lane "${second[@]}" </dev/null &
lanes+=($!)
# Called by the traps below.
# shellcheck disable=SC2317
stop() {
    trap - INT TERM HUP
    for pid in "${lanes[@]}"; do
        kill -s "$1" -- "-$pid" 2>/dev/null || true
    done
    wait
    exit "$2"
}
trap 'stop INT 130' INT
trap 'stop TERM 143' TERM
trap 'stop HUP 129' HUP
wait

printf '\n=== the layers, %d s in all\n' "$SECONDS"
cat "$logs/results"
passed=$(grep -c '^ok ' "$logs/results" || true)
failed=$(grep -c '^FAIL ' "$logs/results" || true)
printf '%d passed, %d failed\n' "$passed" "$failed"
if [ "$((passed + failed))" -ne "$((${#first[@]} + ${#second[@]}))" ]; then
    printf 'error: a lane ended before its last layer\n' >&2
    exit 1
fi
code=$(grep -v '^0$' "$logs/codes" | head -n 1 || true)
exit "${code:-0}"
