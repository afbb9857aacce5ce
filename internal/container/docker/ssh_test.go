//go:build unix

package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/container"
)

// An engine behind ssh that does not answer costs no more than the deadline, also where a master of ControlMaster has the pipes of the
// ssh that began it. Closing leaves no ssh behind, nor what it started, but for that master.
func TestFrozenOverSSH(t *testing.T) {
	bin := t.TempDir()
	masters, programs := filepath.Join(bin, "masters"), filepath.Join(bin, "programs")
	// It does not end when it is asked to, as an ssh that waits for a frozen master.
	write(t, filepath.Join(bin, "ssh"), "#!/bin/sh\n[ \"$1\" = -G ] && exit 1\ntrap '' TERM\nsetsid sh -c 'echo $$ >>"+masters+"; exec sleep 300' &\nsleep 300 &\n"+
		"echo $$ $! >>"+programs+"\nwhile :; do wait; done\n", 0o700)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Cleanup(func() {
		for _, pid := range pidsIn(t, masters) {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
	})
	r, err := New(Options{Host: "ssh://me@far.example", Home: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	const limit = 200 * time.Millisecond
	r.infoLimit = limit
	stopped := errors.New("stopped by the test")
	for question, c := range map[string]struct {
		ask  func(context.Context) error
		want string
	}{
		"info":  {func(ctx context.Context) error { _, err := r.Info(ctx); return err }, "does not answer at ssh://me@far.example: no reply within 200ms"},
		"image": {func(ctx context.Context) error { _, err := r.Resolve(ctx, "a:b"); return err }, "image a:b: stopped by the test"},
		"attach": {func(ctx context.Context) error {
			_, err := (&handle{runtime: r, id: "a", name: "a"}).attach(ctx, ctx, container.Streams{Stdout: io.Discard})
			return err
		}, "attach to a: stopped by the test"},
	} {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 2*limit, stopped)
		ended := make(chan error, 1)
		go func() { ended <- c.ask(ctx) }()
		select {
		case err := <-ended:
			if !errors.Is(err, stopped) && !errors.Is(err, container.ErrUnreachable) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got %v, want %q", question, err, c.want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: it has not ended after 20 s", question)
		}
		cancel()
	}
	began := time.Now()
	if err := r.Close(); err != nil || time.Since(began) > 10*time.Second {
		t.Errorf("closing took %s: %v", time.Since(began), err)
	}
	left := pidsIn(t, programs)
	if len(left) < 6 {
		t.Errorf("programs were not started: %d", left)
	}
	checkEnded(t, left)
}

// Why ssh reaches no engine is told in its own words.
func TestSSHFails(t *testing.T) {
	bin := t.TempDir()
	write(t, filepath.Join(bin, "ssh"), "#!/bin/sh\necho \"$*\" >"+bin+"/args\necho 'me@far.example: Permission denied (publickey).' >&2\nexit 255\n", 0o700)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	r, err := New(Options{Host: "ssh://me@far.example:2222/run/far.sock", Home: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	const want = "ended with exit status 255: me@far.example: Permission denied (publickey)."
	_, err = r.Info(t.Context())
	if !errors.Is(err, container.ErrUnreachable) || !strings.HasSuffix(err.Error(), want) ||
		!strings.HasPrefix(container.Advice(err), "start the one there, ") {
		t.Errorf("%v, advice %q", err, container.Advice(err))
	}
	const wantArgs = "-l me -p 2222 -o ConnectTimeout=30 -T -- far.example docker '--host=unix:///run/far.sock' system dial-stdio\n"
	if args, err := os.ReadFile(filepath.Join(bin, "args")); err != nil || string(args) != wantArgs {
		t.Errorf("%v: %q, want %q", err, args, wantArgs)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// An ssh does not become a master that ends with its own connection: the others would end with it.
func TestSSHMaster(t *testing.T) { //nolint:paralleltest // it sets an environment variable
	for config, want := range map[string]string{
		"controlmaster auto\\ncontrolpersist no\\ncontrolpath /a\\n":  "-o ControlMaster=no -o ConnectTimeout=30",
		"controlmaster true\\ncontrolpersist no\\n":                   "-o ControlMaster=no -o ConnectTimeout=30",
		"controlmaster auto\\ncontrolpersist yes\\n":                  "-o ConnectTimeout=30",
		"controlmaster auto\\ncontrolpersist 600\\n":                  "-o ConnectTimeout=30",
		"controlmaster false\\ncontrolpersist no\\ncontrolpath /a\\n": "-o ConnectTimeout=30",
		"": "-o ConnectTimeout=30",
	} {
		bin := t.TempDir()
		write(t, filepath.Join(bin, "ssh"), "#!/bin/sh\nif [ \"$1\" = -G ]; then printf '"+config+"'; exit; fi\necho \"$*\" >"+bin+"/args\nexit 1\n", 0o700)
		t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
		r, err := New(Options{Host: "ssh://far.example", Home: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Info(t.Context()); !errors.Is(err, container.ErrUnreachable) {
			t.Errorf("%q: %v", config, err)
		}
		if args, err := os.ReadFile(filepath.Join(bin, "args")); err != nil || !strings.HasPrefix(string(args), want+" ") {
			t.Errorf("%q: %v: %q, want %q", config, err, args, want)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// An ssh that does not tell its configuration delays no end, and is not left behind.
func TestSSHConfigFrozen(t *testing.T) {
	bin := t.TempDir()
	programs := filepath.Join(bin, "programs")
	write(t, filepath.Join(bin, "ssh"), "#!/bin/sh\ntrap '' TERM\nsleep 300 &\necho $$ $! >>"+programs+"\nwhile :; do wait; done\n", 0o700)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	r, err := New(Options{Host: "ssh://far.example", Home: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	r.infoLimit = 500 * time.Millisecond
	began := time.Now()
	if _, err := r.Info(t.Context()); !errors.Is(err, container.ErrUnreachable) {
		t.Error(err)
	}
	if err := r.Close(); err != nil || time.Since(began) > 10*time.Second {
		t.Errorf("it took %s: %v", time.Since(began), err)
	}
	checkEnded(t, pidsIn(t, programs))
}

// checkEnded fails the test if processes are left. One that was killed ends a little later.
func checkEnded(t *testing.T, pids []int) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for _, pid := range pids {
		for {
			state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err != nil || strings.Contains(string(state), ") Z ") {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("process %d is left: %s", pid, state)
				_ = syscall.Kill(pid, syscall.SIGKILL)
				break
			}
			<-time.After(time.Millisecond)
		}
	}
}

func pidsIn(t *testing.T, file string) (pids []int) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for field := range strings.FieldsSeq(string(text)) {
		pid, err := strconv.Atoi(field)
		if err != nil || pid < 2 {
			t.Fatalf("%q: %v", text, err)
		}
		pids = append(pids, pid)
	}
	return pids
}
