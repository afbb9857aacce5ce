#!/usr/bin/env bash
# Tests engine.sh on made-up machines: a folder that stands before every path that it looks at, a PATH with stand-ins for
# dockerd, apt-get, systemctl and sudo that record their calls, and sockets that answer, refuse or hang. Nothing of the real
# machine is started, installed or asked.
set -uo pipefail

scripts=$(cd "$(dirname "$0")" && pwd)
top=$(mktemp -d)
pids=()
cleanup() {
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null
    done
    # What engine.sh itself started by hand is not a child of this script.
    for file in "$top"/*/pids; do
        [ -r "$file" ] && xargs -r kill <"$file" 2>/dev/null
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

# tool NAME: a stand-in that records its call, then does what stands on stdin.
tool() {
    { printf '#!/bin/bash\necho "%s $*" >>"%s/calls"\n' "$1" "$machine" && cat; } >"$machine/bin/$1"
    chmod 755 "$machine/bin/$1"
}

# answer SOCKET HOW: something that listens there and answers like an engine, with an error, or never.
cat >"$top/listen.pl" <<'PERL'
use IO::Socket::UNIX;
my ($path, $how) = @ARGV;
my $listener = IO::Socket::UNIX->new(Local => $path, Listen => 5) or die "$path: $!";
my %answer = (ok => "200 OK\r\nContent-Length: 2\r\n\r\nOK", error => "500 Oops\r\nContent-Length: 0\r\n\r\n");
my @kept;
while (my $client = $listener->accept) {
	if ($how eq 'hang') { push @kept, $client; next }
	while (my $line = <$client>) { last if $line =~ /^\r?\n/ }
	print $client "HTTP/1.1 $answer{$how}";
	close $client;
}
PERL
answer() {
    perl "$top/listen.pl" "$1" "$2" &
    pids+=($!)
    for _ in $(seq 100); do
        [ -S "$1" ] && return
        sleep 0.05
    done
    printf 'error: nothing listens on %s after 5 s\n' "$1" >&2
    exit 1
}

# new NAME [OS]: an empty machine of that distribution, without an engine, where apt-get "installs" a dockerd that works.
new() {
    name=$1 machine=$top/m$((passed + failed)) user=
    mkdir -p "$machine"/{bin,etc,usr/sbin,var/run,var/log,run,home,scripts}
    printf 'ID=%s\n' "${2:-debian}" >"$machine/etc/os-release"
    cp "$scripts/engine.sh" "$scripts/lib.sh" "$machine/scripts"
    : >"$machine/calls"
    : >"$machine/pids"
    local real
    for real in bash sh env id sed head cut cat tail grep sleep dirname sha256sum timeout flock setsid nohup perl curl ln rm; do
        real=$(command -v "$real") && ln -s "$real" "$machine/bin/"
    done
    cat >"$machine/dockerd" <<SH
#!/bin/bash
echo "dockerd \$*" >>"$machine/calls"
echo \$\$ >>"$machine/pids"
rm -f "$machine/var/run/docker.sock"
exec perl "$top/listen.pl" "$machine/var/run/docker.sock" ok
SH
    chmod 755 "$machine/dockerd"
    tool apt-get <<SH
grep -q 'is installed here: installing' "$machine/output" && echo said-so-first >>"$machine/calls"
case "\$*" in *install*docker.io*) ln -sf "$machine/dockerd" "$machine/usr/sbin/dockerd" ;; esac
SH
    tool apt-cache <<<'exit 100'
}

# as_user: the script runs as an ordinary user from here on. Root would be allowed to use any socket.
as_user() {
    chmod 755 "$top"
    chmod -R a+rwX "$machine"
    if [ "$(id -u)" -eq 0 ]; then
        user=65534
    fi
}

# run CODE SECONDS [VARIABLE=VALUE...]: engine.sh on the machine must exit with CODE within SECONDS.
run() {
    local want=$1 limit=$2 code=0 began=$SECONDS prefix=()
    shift 2
    if [ -n "$user" ]; then
        prefix=(setpriv "--reuid=$user" "--regid=$user" --clear-groups)
    fi
    "${prefix[@]}" timeout "$((limit + 5))" env -i PATH="$machine/bin" HOME="$machine/home" DALIRUN_SCRIPT_ROOT="$machine" \
        DALIRUN_ENGINE_START_SECONDS=15 "$@" bash "$machine/scripts/engine.sh" >"$machine/output" 2>&1 </dev/null || code=$?
    if [ "$code" -ne "$want" ]; then
        fail "exit code $code, want $want"
    elif [ $((SECONDS - began)) -gt "$limit" ]; then
        fail "took $((SECONDS - began)) s, want at most $limit"
    else
        return 0
    fi
    return 1
}
says() { grep -Fq -- "$1" "$machine/output" || { fail "does not say: $1" && return 1; }; }
silent() { [ ! -s "$machine/output" ] || { fail "is not silent" && return 1; }; }
called() { grep -Eq -- "$1" "$machine/calls" || { fail "did not call $1, but: $(tr '\n' ';' <"$machine/calls")" && return 1; }; }
touched_nothing() { [ ! -s "$machine/calls" ] || { fail "called $(tr '\n' ';' <"$machine/calls")" && return 1; }; }

new 'an engine that answers is left alone'
answer "$machine/var/run/docker.sock" ok
run 0 20 && silent && touched_nothing && ok

new 'without curl, perl asks the engine'
rm "$machine/bin/curl"
answer "$machine/var/run/docker.sock" ok
run 0 20 && silent && touched_nothing && ok

new 'an engine named by DOCKER_HOST is left alone'
answer "$machine/run/other.sock" ok
run 0 20 DOCKER_HOST="unix://$machine/run/other.sock" && silent && touched_nothing && ok

# context NAME SOCKET: as "docker context create" and "docker context use" leave it.
context() {
    local meta
    meta=$machine/home/.docker/contexts/meta/$(printf %s "$1" | sha256sum | cut -d ' ' -f 1)
    mkdir -p "$meta"
    printf '{"Name":"%s","Metadata":{},"Endpoints":{"docker":{"Host":"unix://%s","SkipTLSVerify":false}}}' "$1" "$2" >"$meta/meta.json"
    printf '{\n\t"auths": {},\n\t"currentContext": "%s"\n}\n' "$1" >"$machine/home/.docker/config.json"
}

new 'an engine named by a Docker context is left alone'
context lab "$machine/run/lab.sock"
answer "$machine/run/lab.sock" ok
run 0 20 && silent && touched_nothing && ok

new 'a context that does not answer is named, nothing is touched'
context lab "$machine/run/lab.sock"
run 3 20 && says "the Docker context 'lab' names unix://$machine/run/lab.sock, and nothing answers" && touched_nothing && ok

new 'a context that does not exist is named'
run 3 20 DOCKER_CONTEXT=gone && says "the Docker context 'gone' is chosen, but it does not exist" && touched_nothing && ok

new 'the context called default is the default socket'
answer "$machine/var/run/docker.sock" ok
run 0 20 DOCKER_CONTEXT=default && silent && touched_nothing && ok

new 'a DOCKER_HOST that does not answer is named, nothing is touched'
run 3 20 DOCKER_HOST="unix://$machine/run/other.sock" && says "DOCKER_HOST names unix://$machine/run/other.sock" && touched_nothing && ok

new 'a DOCKER_HOST that answers with an error does not count'
answer "$machine/run/other.sock" error
run 3 20 DOCKER_HOST="unix://$machine/run/other.sock" && says 'nothing answers there' && touched_nothing && ok

new 'without curl, an error does not count either'
rm "$machine/bin/curl"
answer "$machine/run/other.sock" error
run 3 20 DOCKER_HOST="unix://$machine/run/other.sock" && says 'nothing answers there' && touched_nothing && ok

new 'a DOCKER_HOST that hangs does not hang the script'
answer "$machine/run/other.sock" hang
run 3 20 DOCKER_HOST="unix://$machine/run/other.sock" && says 'nothing answers there' && touched_nothing && ok

new 'without curl, it does not hang either'
rm "$machine/bin/curl"
answer "$machine/run/other.sock" hang
run 3 20 DOCKER_HOST="unix://$machine/run/other.sock" && says 'nothing answers there' && touched_nothing && ok

new 'a remote engine is asked by the client'
tool docker <<<'exit 1'
run 3 20 DOCKER_HOST=tcp://127.0.0.1:9 && says 'DOCKER_HOST names tcp://127.0.0.1:9, and nothing answers' && called '^docker version$' && ok

new 'a remote engine without a client is taken as it is'
run 0 20 DOCKER_HOST=tcp://127.0.0.1:9 && says 'cannot be asked' && touched_nothing && ok

new 'permission denied gets its own sentence, not an install'
tool sudo <<<'exec "$@"'
answer "$machine/var/run/docker.sock" ok
as_user
chmod 000 "$machine/var/run/docker.sock"
run 3 20 && says "permission denied on $machine/var/run/docker.sock" && says 'usermod -aG docker' && touched_nothing && ok

new 'no engine: says so, then installs and starts one'
run 0 20 && says 'no container engine is installed here: installing' && called '^apt-get .*update$' && called '^said-so-first$' &&
    called '^apt-get .*install -y --no-install-recommends .*docker.io iptables$' && called '^dockerd' && says 'answers on' && ok

name='the second run finds the engine and does nothing'
: >"$machine/calls"
run 0 20 && silent && touched_nothing && ok

new 'a client and systemctl are no engine' ubuntu
tool docker <<<'exit 1'
tool systemctl <<<'exit 1'
run 0 20 && called '^apt-get .*install' && called '^dockerd' && ok

new 'a release that has the client in a package of its own'
tool apt-cache <<<'exit 0'
run 0 20 && called '^apt-get .*docker.io iptables docker-cli$' && ok

new 'a package that cannot be installed is an error'
tool apt-get <<<'case "$*" in *install*) echo "E: Unable to locate package docker.io"; exit 100 ;; esac'
run 3 20 && says 'E: Unable to locate package' && says 'apt-get could not install docker.io' && ok

new 'an ordinary user installs and starts with sudo'
tool sudo <<<'exec "$@"'
as_user
run 0 20 && called '^sudo env .*apt-get .*install' && called '^sudo sh -c setsid' && ok

new 'an ordinary user without sudo is told the command'
as_user
run 3 20 && says 'as root: apt-get install docker.io iptables' && touched_nothing && ok

new 'another distribution is told what to install' fedora
run 3 20 && says 'moby-engine' && touched_nothing && ok

new 'a stopped snap is not replaced' ubuntu
mkdir -p "$machine/snap/docker"
run 3 20 && says 'snap start docker' && touched_nothing && ok

new 'a stopped engine is started by hand where there is no systemd'
ln -s "$machine/dockerd" "$machine/usr/sbin/dockerd"
run 0 20 && says 'starting dockerd by hand' && called '^dockerd' && ok

new 'the socket that a dead engine left is no engine'
ln -s "$machine/dockerd" "$machine/usr/sbin/dockerd"
perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 1)' "$machine/var/run/docker.sock"
run 0 20 && called '^dockerd' && ok

new 'a stopped engine is started by systemd where there is one'
mkdir -p "$machine/run/systemd/system"
ln -s "$machine/dockerd" "$machine/usr/sbin/dockerd"
tool systemctl <<<"setsid '$machine/dockerd' >/dev/null 2>&1 &"
run 0 20 && called '^systemctl start docker$' && ok

new 'what systemd cannot start is an error'
mkdir -p "$machine/run/systemd/system"
ln -s "$machine/dockerd" "$machine/usr/sbin/dockerd"
tool systemctl <<<'exit 1'
run 3 20 && says 'journalctl -u docker' && ok

new 'an engine that does not come up: its last words, in time'
printf '#!/bin/bash\necho "failed to start daemon: no space left on device"\n' >"$machine/usr/sbin/dockerd"
chmod 755 "$machine/usr/sbin/dockerd"
run 3 20 DALIRUN_ENGINE_START_SECONDS=1 && says 'no space left on device' && says 'did not answer on' && ok

new 'no second dockerd beside one that starts or hangs'
mkfifo "$machine/never"
printf '#!/bin/bash\necho "$$" >"%s/var/run/docker.pid"\nread -r <>"%s/never"\n' "$machine" "$machine" >"$machine/usr/sbin/dockerd"
chmod 755 "$machine/usr/sbin/dockerd"
"$machine/usr/sbin/dockerd" &
pids+=($!)
until [ -s "$machine/var/run/docker.pid" ]; do sleep 0.05; done
printf '#!/bin/bash\necho dockerd >>"%s/calls"\n' "$machine" >"$machine/dockerd"
chmod 755 "$machine/dockerd"
ln -sf "$machine/dockerd" "$machine/usr/sbin/dockerd"
run 3 20 DALIRUN_ENGINE_START_SECONDS=1 && says 'waiting for it' && touched_nothing && ok

new 'a dockerd that ended and that nobody waited for is none'
ln -s "$machine/dockerd" "$machine/usr/sbin/dockerd"
cat >"$machine/neglect.pl" <<'PERL'
my ($file, $program) = @ARGV;
defined(my $pid = fork) or die "fork: $!";
exec $program, '-e', 'exit' if $pid == 0;
open my $out, '>', $file or die "$file: $!";
print $out "$pid\n";
close $out;
sleep 60;
PERL
mkdir "$machine/ended"
ln -s "$(command -v perl)" "$machine/ended/dockerd"
perl "$machine/neglect.pl" "$machine/var/run/docker.pid" "$machine/ended/dockerd" &
pids+=($!)
until [ -s "$machine/var/run/docker.pid" ] && grep -q '^State:[[:space:]]*Z' "/proc/$(cat "$machine/var/run/docker.pid")/status"; do sleep 0.05; done
if [ "$(cat "/proc/$(cat "$machine/var/run/docker.pid")/comm")" != dockerd ]; then
    fail 'what ended is not called dockerd'
else
    run 0 20 && says 'starting dockerd by hand' && called '^dockerd' && ok
fi

printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
