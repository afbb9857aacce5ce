#!/usr/bin/env bash
# Makes sure that a container engine answers, so that the tasks after it can use one.
#
# An engine that answers is left alone, whatever it is. Else only the machine's own Docker Engine (the default socket) is
# ever installed or started; one that DOCKER_HOST or a Docker context names is the user's to start. Exits 3 with one
# sentence that says what to do where nothing can be done.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

default_socket=$root/var/run/docker.sock
log=$root/var/log/dockerd.log
start_seconds=${DALIRUN_ENGINE_START_SECONDS:-30}

# Sets endpoint, the address that Docker's own client would use, and named_by, who says so: the same order as its own.
find_endpoint() {
    endpoint=unix://$default_socket named_by=
    if [ -n "${DOCKER_HOST:-}" ]; then
        endpoint=$DOCKER_HOST named_by=DOCKER_HOST
        return
    fi
    local config=${DOCKER_CONFIG:-${HOME:-}/.docker} context=${DOCKER_CONTEXT:-} meta
    if [ -z "$context" ] && [ -r "$config/config.json" ]; then
        context=$(sed -n 's/.*"currentContext"[[:space:]]*:[[:space:]]*"\([^"]*\)".*/\1/p' "$config/config.json" | head -n 1)
    fi
    if [ -z "$context" ] || [ "$context" = default ]; then
        return
    fi
    named_by="the Docker context '$context'"
    # The client keeps each context in a folder that is called after the hash of its name.
    meta=$config/contexts/meta/$(printf %s "$context" | sha256sum | cut -d ' ' -f 1)/meta.json
    [ -r "$meta" ] || die "$named_by is chosen, but it does not exist; see 'docker context ls', or unset it"
    endpoint=$(sed -n 's/.*"Host"[[:space:]]*:[[:space:]]*"\([^"]*\)".*/\1/p' "$meta" | head -n 1)
    [ -n "$endpoint" ] || die "$named_by names no address ($meta)"
}

# A bare Debian has perl but no curl, other systems the other way round; neither needs Docker's client. The response
# matters: a socket alone is there before its engine is, and stays when the engine has died.
socket_answers() {
    if command -v curl >/dev/null; then
        curl --silent --fail --max-time 5 --output /dev/null --noproxy '*' --unix-socket "$1" http://localhost/_ping
    elif command -v perl >/dev/null; then
        perl -MIO::Socket::UNIX -e '
            alarm 5;
            my $socket = IO::Socket::UNIX->new(Peer => $ARGV[0]) or exit 1;
            print $socket "GET /_ping HTTP/1.0\r\nHost: localhost\r\n\r\n";
            $socket->flush;
            exit(<$socket> =~ m{^HTTP/1\.[01] 200} ? 0 : 1);' "$1" 2>/dev/null
    else
        die "the container engine at $1 cannot be asked whether it runs: install curl"
    fi
}

engine_answers() {
    case $endpoint in
    unix://*) socket_answers "${endpoint#unix://}" ;;
    *)
        if ! command -v docker >/dev/null; then
            say "$named_by names $endpoint, which cannot be asked without Docker's client: taken as it is"
            return 0
        fi
        timeout 15 docker version >/dev/null 2>&1
        ;;
    esac
}

check_permission() {
    local socket=${endpoint#unix://}
    if [ -S "$socket" ] && [ ! -w "$socket" ]; then
        die "permission denied on $socket: $(id -un 2>/dev/null || id -u) may not use the container engine." \
            "Join its group (sudo usermod -aG docker \"\$USER\", then log in again) or run this with sudo"
    fi
}

# A user's PATH often lacks the folders where daemons are.
find_dockerd() { PATH=$PATH:$root/usr/local/sbin:$root/usr/sbin:$root/sbin command -v dockerd; }

# True if an engine on this machine is starting or hangs: a second one beside it would break its network. The second file
# is written by the init script of Debian's package before dockerd writes its own. A process that ended keeps its name
# until its parent asks for its status, which the init process of a container may never do.
dockerd_runs() {
    local file pid
    for file in "$root/var/run/docker.pid" "$root/var/run/docker-ssd.pid"; do
        if pid=$(cat "$file" 2>/dev/null) && grep -Eqs '^(dockerd|start-stop-daem)$' "/proc/$pid/comm" &&
            ! grep -Eqs '^State:[[:space:]]+[ZX]' "/proc/$pid/status"; then
            return 0
        fi
    done
    return 1
}

install_engine() {
    if [ -e "$root/snap/docker" ]; then
        die "Docker is installed here as a snap, and stopped; start it: sudo snap start docker"
    fi
    has_debian_packages || die "no container engine is installed here, and only Debian's and Ubuntu's can be installed" \
        "by this script; install one and start it (Fedora: moby-engine; Arch, Alpine, openSUSE: docker), then try again"
    can_be_root || die "no container engine is installed here; as root: apt-get install docker.io iptables"
    say "no container engine is installed here: installing docker.io and iptables from this system's packages"
    local packages=(docker.io iptables)
    update_package_lists
    # Newer releases have the client in a package of its own.
    if apt-cache show docker-cli >/dev/null 2>&1; then
        packages+=(docker-cli)
    fi
    install_packages "${packages[@]}" || die "apt-get could not install ${packages[*]}; its own words are above"
}

start_engine() {
    can_be_root || die "the container engine is installed but does not run; start it as root: dockerd"
    if [ -d "$root/run/systemd/system" ]; then
        say "the container engine does not run: starting it with systemctl start docker"
        as_root systemctl start docker || die "systemd could not start docker; see: journalctl -u docker"
    elif dockerd_runs; then
        say "dockerd runs but does not answer yet: waiting for it"
    else
        say "the container engine does not run: starting dockerd by hand (its log: $log)"
        # In a session of its own, so that neither Ctrl-C nor the end of this terminal takes the engine along.
        # shellcheck disable=SC2016 # expanded by the inner shell
        as_root sh -c 'setsid nohup "$0" >>"$1" 2>&1 </dev/null &' "$(find_dockerd)" "$log"
    fi
}

wait_for_engine() {
    local deadline=$((SECONDS + start_seconds))
    until engine_answers; do
        check_permission
        if [ "$SECONDS" -ge "$deadline" ]; then
            if [ -r "$log" ]; then
                say "--- the end of $log"
                tail -n 20 "$log" >&2
            fi
            die "the container engine did not answer on $default_socket within $start_seconds s"
        fi
        sleep 0.3
    done
}

find_endpoint
if engine_answers; then
    exit 0
fi
case $endpoint in
unix://"$default_socket" | unix://"$root"/run/docker.sock) check_permission ;;
unix://*)
    check_permission
    die "$named_by names $endpoint, and nothing answers there; start that engine or unset it. Nothing was changed"
    ;;
*) die "$named_by names $endpoint, and nothing answers there; start that engine or unset it. Nothing was changed" ;;
esac
find_dockerd >/dev/null || install_engine
# The package's own scripts may have started it already.
engine_answers || start_engine
wait_for_engine
say "the container engine answers on $default_socket"
