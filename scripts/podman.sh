#!/usr/bin/env bash
# podman.sh start FOLDER
# podman.sh stop FOLDER
#
# Starts Debian's Podman as a container engine of its own, and prints the address at which it answers Docker's API. All
# that it keeps is below FOLDER: nobody's images, containers or networks are touched, and stop removes what start made. A
# Podman of that folder that answers is left alone. What start lacks it installs, from Debian's or Ubuntu's packages. An
# ordinary user is told that the tests on Podman will be skipped, and gets no address; CI may not go on without.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

scripts=$(cd "$(dirname "$0")" && pwd)
start_seconds=${DALIRUN_PODMAN_START_SECONDS:-30}
usage="usage: podman.sh start|stop FOLDER"

command=${1:-}
[ -n "${2:-}" ] || die "$usage"
case $2 in
/*) folder=$2 ;;
*) folder=$PWD/$2 ;;
esac
socket=$folder/podman.sock
log=$folder/log

# Without root Podman has another network and no limits, and it is the user's own to start.
if [ "$(id -u)" -ne 0 ]; then
    [ -z "${CI:-}" ] || die "this Podman is root's: run $0 as root"
    [ "$command" = stop ] || say "the tests on Podman will be skipped: you are not root"
    exit 0
fi

answers() {
    [ -S "$socket" ] &&
        curl --silent --fail --max-time 5 --output /dev/null --noproxy '*' --unix-socket "$socket" http://localhost/_ping
}

# limit OPTION NUMBER: what a container gets of a resource, NUMBER or as much as this process may, as "soft:hard".
limit() {
    local may
    may=$(ulimit -H "$1")
    if [ "$may" = unlimited ] || [ "$may" -gt "$2" ]; then
        may=$2
    fi
    printf '%s:%s' "$may" "$may"
}

configure() {
    local files processes number
    files=$(limit -n 1048576)
    # Podman lowers its own limit to this when it starts.
    processes=$(limit -u "$(cat /proc/sys/kernel/pid_max)")
    mkdir -p "$folder/networks"
    cat >"$folder/containers.conf" <<CONF
# Written by scripts/podman.sh for the one Podman of this folder.
[containers]
# Podman asks for more than a process without CAP_SYS_RESOURCE may raise its limits to, and then no container starts.
default_ulimits = ["nofile=$files", "nproc=$processes"]
# journald, the usual on a machine with systemd, is the whole machine's.
log_driver = "k8s-file"

[network]
# The other one, CNI, is not installed.
network_backend = "netavark"
network_config_dir = "$folder/networks"

[engine]
# crun refuses a machine with both versions of cgroups, as one has on which elogind or an old container engine runs.
runtime = "runc"
# systemd manages no cgroups where it does not run.
cgroup_manager = "cgroupfs"
events_logger = "file"
# The locks in shared memory are those of all Podmans of root, by one name.
lock_type = "file"
CONF
    # The usual network with an interface and addresses of the folder's: podman0 is that of the machine's own Podman.
    number=$(($(printf %s "$folder" | cksum | cut -d ' ' -f 1) % 256))
    cat >"$folder/networks/podman.json" <<JSON
{
  "name": "podman",
  "id": "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9",
  "driver": "bridge",
  "network_interface": "dalirun-pod$number",
  "created": "2026-01-01T00:00:00Z",
  "subnets": [{"subnet": "10.214.$number.0/24", "gateway": "10.214.$number.1"}],
  "ipv6_enabled": false,
  "internal": false,
  "dns_enabled": false,
  "ipam_options": {"driver": "host-local"}
}
JSON
}

# As its service is started, so that it can be asked and stopped by hand: see CONTAINERS_CONF.
podman_of_folder() {
    CONTAINERS_CONF=$folder/containers.conf podman --root "$folder/storage" --runroot "$folder/run" --tmpdir "$folder/tmp" "$@"
}

start() {
    "$scripts/need.sh" curl curl
    if answers; then
        printf 'unix://%s\n' "$socket"
        return
    fi
    # aardvark-dns is what netavark names containers with, catatonit is --init, and runc the runtime of configure.
    "$scripts/need.sh" podman podman netavark aardvark-dns catatonit runc
    "$scripts/need.sh" "$root/usr/lib/podman/netavark" netavark aardvark-dns # a Podman may be there without them
    "$scripts/need.sh" catatonit catatonit
    PATH=$PATH:/usr/sbin "$scripts/need.sh" runc runc
    configure
    say "starting Podman for $socket (its log: $log)"
    rm -f "$socket"
    # In a session of its own, so that neither Ctrl-C nor the end of this terminal takes it along. In its folder, because
    # conmon writes there what containers the kernel killed for memory.
    cd "$folder"
    export CONTAINERS_CONF=$folder/containers.conf
    setsid nohup podman --root "$folder/storage" --runroot "$folder/run" --tmpdir "$folder/tmp" \
        system service --time=0 "unix://$socket" >>"$log" 2>&1 </dev/null &
    printf '%s\n' "$!" >"$folder/pid"
    local deadline=$((SECONDS + start_seconds))
    until answers; do
        if [ "$SECONDS" -ge "$deadline" ] || ! kill -0 "$(cat "$folder/pid")" 2>/dev/null; then
            tail -n 20 "$log" >&2
            die "Podman did not answer on $socket within $start_seconds s; its log is above"
        fi
        sleep 0.1
    done
    printf 'unix://%s\n' "$socket"
}

# end_monitors ends what watched programs that docker exec started: for five minutes after their end each waits to clean up
# after them, by a Podman that would make the folder anew. Only those of the folder name it.
end_monitors() {
    local file
    for file in /proc/[0-9]*/cmdline; do
        if tr '\0' ' ' 2>/dev/null <"$file" | grep -Eq "^[^ ]*conmon .* -b $folder/storage/"; then
            kill -KILL "$(basename "$(dirname "$file")")" 2>/dev/null || true
        fi
    done
}

stop() {
    [ -e "$folder" ] || return 0
    [ -r "$folder/containers.conf" ] || die "$folder is no folder of a Podman that this script started. Nothing was changed"
    local pid=
    if pid=$(cat "$folder/pid" 2>/dev/null) && tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -Fq -- "unix://$socket"; then
        kill "$pid"
        local deadline=$((SECONDS + start_seconds))
        while kill -0 "$pid" 2>/dev/null; do
            [ "$SECONDS" -lt "$deadline" ] || die "Podman (process $pid) did not end within $start_seconds s after SIGTERM"
            sleep 0.1
        done
    fi
    # Containers are processes of their own, and their network and mounts are of the machine.
    if command -v podman >/dev/null; then
        podman_of_folder rm --all --force --time 0 --volumes >/dev/null || die "Podman could not remove its containers"
    fi
    end_monitors
    umount -q "$folder/storage/overlay" 2>/dev/null || true
    rm -rf --one-file-system "$folder"
}

case $command in
start) start ;;
stop) stop ;;
*) die "$usage" ;;
esac
