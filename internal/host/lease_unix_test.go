//go:build linux || darwin

package host_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/needtest"
)

// leaseEnv makes the test binary another process, perhaps of another user, that takes the lease of [h100] in the folder
// that is its value. It says who is in its way, what is, and "taken", and has the lease until its input ends.
const leaseEnv = "DALIRUN_LEASE_HELPER"

func TestMain(m *testing.M) {
	folder := os.Getenv(leaseEnv)
	if folder == "" {
		os.Exit(m.Run())
	}
	lease, err := host.Leases{Folder: folder}.Take(context.Background(), []host.GPU{h100()}, holder(), time.Minute, host.LeaseObserver{
		Busy:      func(_ host.GPU, h host.Holder) { fmt.Println("busy:", h) },
		Unguarded: func(_ host.GPU, err error) { fmt.Println("unguarded:", err) },
	})
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println("taken")
	_, _ = io.Copy(io.Discard, os.Stdin)
	lease.Release()
}

// holder is who this process says that it is.
func holder() host.Holder {
	name, _ := os.Hostname()
	return host.Holder{
		PID: os.Getpid(), Host: name, User: fmt.Sprintf("user%d", os.Getuid()), Command: "dalirun e2e", Run: "r1", Workspace: "/w", Doing: "builds an engine",
	}
}

// leaser is a process that takes a lease.
type leaser struct {
	*exec.Cmd
	stdin io.Closer
	lines *bufio.Reader
}

func startLeaser(t *testing.T, folder, binary string, credential *syscall.Credential) leaser {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary)
	cmd.Env, cmd.Dir = append(os.Environ(), leaseEnv+"="+folder), "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait() // some were waited for
	})
	return leaser{cmd, stdin, bufio.NewReader(stdout)}
}

// says fails the test unless the process's next line is want.
func (l leaser) says(t *testing.T, want string) {
	t.Helper()
	if line, err := l.lines.ReadString('\n'); strings.TrimSuffix(line, "\n") != want {
		t.Fatalf("it says %q (%v), not %q", line, err, want)
	}
}

// observed is what an observer was told.
type observed struct {
	mu     sync.Mutex
	busy   []host.Holder
	failed []string
	waits  chan struct{} // gets a value for each call of Busy
}

func observe() *observed { return &observed{waits: make(chan struct{}, 100)} }

func (o *observed) observer() host.LeaseObserver {
	return host.LeaseObserver{
		Busy: func(_ host.GPU, h host.Holder) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.busy = append(o.busy, h)
			o.waits <- struct{}{}
		},
		Unguarded: func(g host.GPU, err error) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.failed = append(o.failed, g.Title()+": "+err.Error())
		},
	}
}

// openFolder returns a folder as /tmp is.
func openFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "dalirun leases ") //nolint:usetesting // t.TempDir is the caller's alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	return dir
}

func lockOf(folder string) string {
	return filepath.Join(folder, "dalirun-"+h100().UUID+".lock")
}

// TestLeaseOfKilledProcess waits for a process that has the lease and is killed: the lease is free within a second, and it is known that nobody
// gave it back.
func TestLeaseOfKilledProcess(t *testing.T) {
	t.Parallel()
	folder, o := openFolder(t), observe()
	other := startLeaser(t, folder, os.Args[0], nil)
	other.says(t, "taken")
	killed := make(chan time.Time, 1)
	go func() {
		<-o.waits
		killed <- time.Now()
		_ = other.Process.Kill()
	}()
	lease, err := host.Leases{Folder: folder}.Take(t.Context(), []host.GPU{h100()}, holder(), time.Minute, o.observer())
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release()
	if took := time.Since(<-killed); took > time.Second {
		t.Errorf("it took %s after the kill", took)
	}
	if !lease.Abandoned || len(o.failed) > 0 {
		t.Errorf("abandoned %t; without a lease: %v", lease.Abandoned, o.failed)
	}
	if len(o.busy) != 1 || o.busy[0].PID != other.Process.Pid || time.Since(o.busy[0].Since) > time.Minute {
		t.Fatalf("told of %v, not of %d once", o.busy, other.Process.Pid)
	}
	want := fmt.Sprintf("PID %d of user%d builds an engine, since %s (`dalirun e2e`, run r1, in /w)", other.Process.Pid, os.Getuid(), o.busy[0].Since.Local().Format(time.TimeOnly))
	if got := o.busy[0].String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestLeaseOfOtherUser hands the lease from root to another user and back: whoever made the file, in a folder like /tmp.
func TestLeaseOfOtherUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		needtest.Missing(t, "only root can start a process of another user")
	}
	folder := openFolder(t)
	// The test binary is in a folder of root's alone.
	binary := filepath.Join(openFolder(t), "test")
	data, err := os.ReadFile(os.Args[0])
	if err := errors.Join(err, os.WriteFile(binary, data, 0o755), os.Chmod(filepath.Dir(binary), 0o755)); err != nil {
		t.Fatal(err)
	}
	users := []*syscall.Credential{nil, {Uid: 10001, Gid: 10001}, nil, {Uid: 10002, Gid: 10002}}
	var last leaser
	for i, user := range users {
		next := startLeaser(t, folder, binary, user)
		if i > 0 {
			line, err := next.lines.ReadString('\n')
			uid := 0
			if users[i-1] != nil {
				uid = int(users[i-1].Uid)
			}
			if want := fmt.Sprintf("busy: PID %d of user%d builds an engine, ", last.Process.Pid, uid); err != nil || !strings.HasPrefix(line, want) {
				t.Errorf("user %+v says %q (%v), not %q", user, line, err, want)
			}
			_ = last.stdin.Close()
		}
		next.says(t, "taken")
		last = next
	}
}

// TestLeaseWait ends with who has the lease, without a wait or after one.
func TestLeaseWait(t *testing.T) {
	t.Parallel()
	leases := host.Leases{Folder: openFolder(t), Poll: time.Millisecond}
	first, err := leases.Take(t.Context(), []host.GPU{h100()}, holder(), 0, observe().observer())
	if err != nil || first.Abandoned {
		t.Fatalf("%+v, %v", first, err)
	}
	for _, wait := range []time.Duration{0, 20 * time.Millisecond} {
		o := observe()
		_, err := leases.Take(t.Context(), []host.GPU{h100()}, holder(), wait, o.observer())
		busy, ok := errors.AsType[*host.BusyError](err)
		if !ok || busy.Waited != wait || busy.Holder.Run != "r1" || busy.GPU.UUID != h100().UUID {
			t.Errorf("%s: got %#v", wait, err)
		}
		if told := len(o.busy); told != map[bool]int{true: 1}[wait > 0] {
			t.Errorf("%s: told %d times", wait, told)
		}
		for _, want := range []string{"GPU 0 (NVIDIA H100 80GB HBM3) ", fmt.Sprintf(": on it PID %d of user%d builds an engine, since ", os.Getpid(), os.Getuid())} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not say %q", err, want)
			}
		}
	}
	first.Release()
	first.Release()
	again, err := leases.Take(t.Context(), []host.GPU{h100()}, holder(), 0, observe().observer())
	if err != nil || again.Abandoned {
		t.Fatalf("after a release: %+v, %v", again, err)
	}
	again.Release()
}

// TestLeaseInterrupted ends a wait at once, with why it was ended, and gives back what was taken by then.
func TestLeaseInterrupted(t *testing.T) {
	t.Parallel()
	folder := openFolder(t)
	synctest.Test(t, func(t *testing.T) {
		leases := host.Leases{Folder: folder, Poll: time.Hour}
		first, err := leases.Take(t.Context(), []host.GPU{h100()}, holder(), 0, observe().observer())
		if err != nil {
			t.Fatal(err)
		}
		defer first.Release()
		errStopped := errors.New("interrupted")
		ctx, cancel := context.WithCancelCause(t.Context())
		other := h100()
		other.UUID = "GPU-a" // is taken before the one that is not free
		var stopped time.Time
		o := observe().observer()
		o.Busy = func(g host.GPU, _ host.Holder) {
			if g.UUID != h100().UUID {
				t.Errorf("it waits for %s", g.UUID)
			}
			time.AfterFunc(time.Minute, func() {
				stopped = time.Now()
				cancel(errStopped)
			})
		}
		if _, err := leases.Take(ctx, []host.GPU{h100(), other}, holder(), 10*time.Hour, o); !errors.Is(err, errStopped) || !time.Now().Equal(stopped) {
			t.Errorf("got %v, %s later", err, time.Since(stopped))
		}
		free, err := leases.Take(t.Context(), []host.GPU{other}, holder(), 0, observe().observer())
		if err != nil {
			t.Fatalf("the other GPU is still taken: %v", err)
		}
		free.Release()
	})
}

// TestLeasesInOneOrder has processes take the same GPUs in opposite orders, again and again.
func TestLeasesInOneOrder(t *testing.T) {
	t.Parallel()
	leases := host.Leases{Folder: openFolder(t), Poll: time.Millisecond}
	gpus := []host.GPU{{UUID: "MIG-GPU-b2b10123/7/0", Part: "0:0"}, {UUID: "GPU-c", Index: 1}, {UUID: "GPU-d", Index: 2}, {UUID: "GPU-c", Index: 1}}
	var inside sync.Mutex
	var jobs sync.WaitGroup
	for i := range 4 {
		mine := slices.Clone(gpus)
		if i%2 == 0 {
			slices.Reverse(mine)
		}
		jobs.Go(func() {
			for range 20 {
				lease, err := leases.Take(t.Context(), mine, holder(), time.Minute, observe().observer())
				if err != nil {
					t.Error(err)
					return
				}
				if !inside.TryLock() {
					t.Error("two have the same GPUs")
				} else {
					inside.Unlock()
				}
				lease.Release()
			}
		})
	}
	jobs.Wait()
	files, err := filepath.Glob(filepath.Join(leases.Folder, "*"))
	want := []string{"dalirun-GPU-c.lock", "dalirun-GPU-d.lock", "dalirun-MIG-GPU-b2b10123_7_0.lock"}
	for i := range files {
		files[i] = filepath.Base(files[i])
	}
	if diff := cmp.Diff(want, files); err != nil || diff != "" {
		t.Errorf("the files (-want +got):\n%s%v", diff, err)
	}
}

// TestLeaseCannotBe looks at what others may have put where a lease's file is to be: nothing is followed or written to, nothing is waited for,
// and it is said that there is no lease.
func TestLeaseCannotBe(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		plant func(path, victim string) error
		want  string
	}{
		"symbolic link":       {func(path, victim string) error { return os.Symlink(victim, path) }, "it is a symbolic link"},
		"link to what is not": {func(path, victim string) error { return os.Symlink(victim+".none", path) }, "it is a symbolic link"},
		"hard link":           {func(path, victim string) error { return os.Link(victim, path) }, "it is a hard link"},
		"pipe":                {func(path, _ string) error { return syscall.Mkfifo(path, 0o666) }, "it is no file"},
		"folder":              {func(path, _ string) error { return os.Mkdir(path, 0o777) }, "is a directory"},
		"no folder to be in":  {func(path, _ string) error { return os.Remove(filepath.Dir(path)) }, "comes and goes"},
		"a folder that is none": {func(path, _ string) error {
			return errors.Join(os.Remove(filepath.Dir(path)), os.WriteFile(filepath.Dir(path), nil, 0o600))
		}, "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder, victim := openFolder(t), filepath.Join(t.TempDir(), "victim")
			if name == "hard link" {
				victim = filepath.Join(openFolder(t), "victim") // of the same file system
			}
			if err := os.WriteFile(victim, []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := c.plant(lockOf(folder), victim); err != nil {
				t.Fatal(err)
			}
			o := observe()
			lease, err := host.Leases{Folder: folder}.Take(t.Context(), []host.GPU{h100()}, holder(), time.Minute, o.observer())
			if err != nil || len(o.failed) != 1 || !strings.HasPrefix(o.failed[0], "GPU 0 (NVIDIA H100 80GB HBM3): ") || !strings.Contains(o.failed[0], c.want) {
				t.Errorf("told %q (%v), not %q", o.failed, err, c.want)
			}
			lease.Release()
			data, err := os.ReadFile(victim)
			info, statErr := os.Stat(victim)
			if err := errors.Join(err, statErr); err != nil || string(data) != "mine" || info.Mode().Perm() != 0o600 {
				t.Errorf("the victim is %q, %v (%v)", data, info.Mode(), err)
			}
			if _, err := os.Stat(victim + ".none"); err == nil {
				t.Error("a file was made where the link leads")
			}
		})
	}
	o := observe()
	unknown := host.GPU{Index: 1}
	if lease, err := (host.Leases{Folder: openFolder(t)}).Take(t.Context(), []host.GPU{unknown}, holder(), 0, o.observer()); err != nil || len(o.failed) != 1 || lease.Abandoned {
		t.Errorf("without a UUID: %q, %v", o.failed, err)
	}
}

// TestHolderText reads what others wrote: it never fails, and never steers a terminal.
func TestHolderText(t *testing.T) {
	t.Parallel()
	const nobody = "a process that does not say who it is builds or measures"
	for text, want := range map[string]string{
		"":                         nobody,
		"hello":                    nobody,
		`{"pid":`:                  nobody,
		`{"pid":-1,"user":"root"}`: nobody,
		`{"pid":"1"}`:              nobody,
		`{"pid":7}`:                "PID 7 builds or measures",
		`{"pid":7,"host":"4f2a","user":"ma\u001b[31mria\nroot","doing":"builds\u202e an engine","workspace":"/w"}`: "PID 7 of maria root in 4f2a builds an engine (in /w)",
		`{"pid":7,"run":"` + strings.Repeat("ü", 200) + `"}`:                                                       "PID 7 builds or measures (run " + strings.Repeat("ü", 128) + "…)",
		`{"pid":7,"run":"` + strings.Repeat("x", 1<<20) + `"}`:                                                     nobody,
	} {
		leases := host.Leases{Folder: openFolder(t), Poll: time.Millisecond}
		lease, err := leases.Take(t.Context(), []host.GPU{h100()}, host.Holder{}, 0, observe().observer())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(lockOf(leases.Folder), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		_, err = leases.Take(t.Context(), []host.GPU{h100()}, holder(), 0, observe().observer())
		if busy, ok := errors.AsType[*host.BusyError](err); !ok || busy.Holder.String() != want {
			t.Errorf("%.60q: got %v, want %q", text, err, want)
		}
		lease.Release()
	}
}

// TestLeaseOfCleanedFolder checks that the lock of a file that somebody removed keeps nobody away for long, and that a new file is every user's.
func TestLeaseOfCleanedFolder(t *testing.T) {
	t.Parallel()
	leases := host.Leases{Folder: openFolder(t), Poll: time.Millisecond}
	for range 2 {
		lease, err := leases.Take(t.Context(), []host.GPU{h100()}, holder(), 0, observe().observer())
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(lockOf(leases.Folder))
		if err != nil || info.Mode().Perm() != 0o666 {
			t.Errorf("the file is %v, %v", info, err)
		}
		if err := os.Remove(lockOf(leases.Folder)); err != nil {
			t.Fatal(err)
		}
		lease.Release()
	}
}
