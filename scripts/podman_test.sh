#!/usr/bin/env bash
# Tests podman.sh with stand-ins for Podman, id and umount. Nothing is installed, and no Podman of this machine is asked.
set -uo pipefail

scripts=$(cd "$(dirname "$0")" && pwd)
top=$(mktemp -d)
cleanup() {
    for file in "$top"/*/folder/pid; do
        [ -r "$file" ] && kill "$(cat "$file")" 2>/dev/null
    done
    rm -rf "$top"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

passed=0 failed=0 name=
fail() {
    failed=$((failed + 1))
    printf 'FAIL  %s: %s\n' "$name" "$1"
    sed 's/^/        /' "$machine/output"
}
ok() {
    passed=$((passed + 1))
    printf 'ok    %s\n' "$name"
}

# It answers a ping on the socket that its last argument names, as the service does.
cat >"$top/service.pl" <<'PERL'
use IO::Socket::UNIX;
my $listener = IO::Socket::UNIX->new(Local => $ARGV[-1] =~ s{^unix://}{}r, Listen => 5) or die "$ARGV[-1]: $!";
while (my $client = $listener->accept) {
	while (my $line = <$client>) { last if $line =~ /^\r?\n/ }
	print $client "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";
	close $client;
}
PERL

# new NAME: a machine whose user is root, with all that podman.sh needs.
new() {
    name=$1 machine=$top/m$((passed + failed))
    folder=$machine/folder
    mkdir -p "$machine"/{bin,usr/lib/podman}
    : >"$machine/calls"
    local tool
    for tool in id umount runc catatonit; do
        printf '#!/bin/sh\n' >"$machine/bin/$tool"
    done
    printf '#!/bin/sh\necho 0\n' >"$machine/bin/id"
    cp "$machine/bin/runc" "$machine/usr/lib/podman/netavark"
    cat >"$machine/bin/podman" <<SH
#!/bin/bash
echo "podman \$* (\$CONTAINERS_CONF)" >>"$machine/calls"
case " \$* " in *" system service "*) exec perl "$top/service.pl" "\$@" ;; esac
SH
    chmod 755 "$machine"/bin/* "$machine/usr/lib/podman/netavark"
}

# run CODE ARGUMENT...: podman.sh on the machine must exit with CODE. It may open as many files as $files says.
run() {
    local want=$1 code=0
    shift
    (
        [ -z "${files:-}" ] || ulimit -n "$files" || exit
        PATH=$machine/bin:$PATH DALIRUN_SCRIPT_ROOT=$machine DALIRUN_PODMAN_START_SECONDS=15 \
            timeout 30 bash "$scripts/podman.sh" "$@"
    ) >"$machine/stdout" 2>"$machine/output" </dev/null || code=$?
    [ "$code" -eq "$want" ] || { fail "exit code $code, want $want" && return 1; }
}
says() { grep -Fq -- "$1" "$machine/output" || { fail "does not say: $1" && return 1; }; }
prints() { [ "$(cat "$machine/stdout")" = "$1" ] || { fail "prints $(cat "$machine/stdout"), want $1" && return 1; }; }
called() { [ "$(grep -Ec -- "$1" "$machine/calls")" -eq "$2" ] || { fail "called $1 not $2 times, but: $(cat "$machine/calls")" && return 1; }; }
configured() { grep -Eq -- "$1" "$folder/containers.conf" || { fail "has not configured $1" && return 1; }; }

new 'start prints the address of a Podman that has all below the folder'
run 0 start "$folder" && prints "unix://$folder/podman.sock" && says 'starting Podman' && configured '^runtime = "runc"$' &&
    called "^podman --root $folder/storage --runroot $folder/run --tmpdir $folder/tmp system service .*\($folder/containers.conf\)$" 1 && ok

name='the second start finds it'
run 0 start "$folder" && prints "unix://$folder/podman.sock" && called 'system service' 1 && ok

name='stop ends it, removes its containers and the folder'
pid=$(cat "$folder/pid")
# As monitors of this folder's Podman and of another one's: the name and the options are what is looked at.
cat >"$machine/monitor.pl" <<'PERL'
$0 = "/usr/bin/conmon -c 1 -b $ARGV[0]/storage/overlay-containers/1/userdata -e";
sleep 60;
PERL
perl "$machine/monitor.pl" "$folder" &
mine=$!
perl "$machine/monitor.pl" "$folder-of-another" &
others=$!
until grep -q conmon "/proc/$mine/cmdline" && grep -q conmon "/proc/$others/cmdline"; do sleep 0.05; done
if run 0 stop "$folder" && called 'rm --all --force' 1; then
    ended=0
    wait "$mine" 2>/dev/null || ended=$?
    if [ "$ended" -ne 137 ]; then
        fail 'a monitor of its own was left'
    elif [ -e "$folder" ] || kill -0 "$pid" 2>/dev/null; then
        fail 'something is left'
    elif ! kill "$others"; then
        fail 'the monitor of another Podman was ended'
    else
        ok
    fi
fi

name='stop of what is not there is nothing'
run 0 stop "$folder" && called 'podman' 2 && ok

new 'stop leaves a folder alone that is no Podman'"'"'s'
mkdir "$folder"
run 3 stop "$folder" && says 'Nothing was changed' && [ -d "$folder" ] && called 'podman' 0 && ok

new 'containers get no more than this process may have'
files=1000 run 0 start "$folder" && configured '"nofile=1000:1000", "nproc=[0-9]+:[0-9]+"' && ok

new 'a Podman that ends at once: its last words'
printf '#!/bin/sh\necho "Error: overlay is not supported" >&2\nexit 125\n' >"$machine/bin/podman"
run 3 start "$folder" && says 'overlay is not supported' && says 'did not answer on' && ok

new 'an ordinary user is told that tests are skipped'
printf '#!/bin/sh\necho 1000\n' >"$machine/bin/id"
CI='' run 0 start "$folder" && prints '' && says 'will be skipped' && called 'podman' 0 && ok

name='CI does not go on without'
CI=true run 3 start "$folder" && called 'podman' 0 && ok

new 'another command is a wrong use'
run 3 restart "$folder" && says 'usage: podman.sh start|stop FOLDER' && run 3 start && ok

printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
