package owner_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/needtest"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/pipeline"
)

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// workspace returns the path of a workspace with a space and letters beyond ASCII.
func workspace(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "Übung 模型", ".dalirun")
	must(t, os.MkdirAll(dir, 0o700))
	return dir
}

func acquire(t *testing.T, workspace, run string) *owner.Lock {
	t.Helper()
	l, err := owner.Acquire(workspace, run)
	must(t, err)
	return l
}

// here is who asks in these tests.
func thisHost() owner.Identity {
	return owner.Identity{Host: "box-1", Boot: "boot-2", Now: time.Date(2026, 8, 23, 12, 0, 0, 0, time.UTC)}
}

// labels returns those of a container of run r1 on this host and boot; changes are pairs of label and value.
func labels(workspace string, role container.Role, changes ...string) map[string]string {
	l := map[string]string{
		container.LabelRun: "r1", container.LabelStep: "serve", container.LabelRole: string(role),
		container.LabelHost: "box-1", container.LabelBoot: "boot-2", container.LabelWorkspace: workspace,
		container.LabelExpires: "2026-08-23T13:00:00Z",
	}
	for i := 0; i < len(changes); i += 2 {
		l[changes[i]] = changes[i+1]
	}
	return l
}

func wantVerdict(t *testing.T, l map[string]string, me owner.Identity, want owner.State, words string) {
	t.Helper()
	state, reason := owner.Verdict(l, me)
	if state != want || !strings.Contains(reason, words) {
		t.Errorf("the verdict is %s, because %s; want %s, because …%s…", state, reason, want, words)
	}
}

func server() owner.ServerFile {
	return owner.ServerFile{
		Container: "4f5e", Name: "dalirun-r1-serve", Run: "r1", GRPC: "127.0.0.1:8001", HTTP: "127.0.0.1:8000",
		Metrics: "127.0.0.1:8002", Served: owner.Served{Lane: "cpu", Source: "local"}, Models: []string{"dali", "resnet50_onnx"},
		Started: time.Date(2026, 8, 23, 11, 0, 0, 0, time.UTC),
	}
}

func TestVerdictByLabels(t *testing.T) {
	t.Parallel()
	gone := workspace(t) // with no run at all
	for _, c := range []struct {
		name    string
		role    container.Role
		changes []string
		want    owner.State
		words   string
	}{
		{"the run is gone", container.RoleBatch, nil, owner.Orphaned, "r1 is gone"},
		{"a server's run is gone", container.RoleServer, nil, owner.Orphaned, "r1 is gone"},
		{"no role", "", nil, owner.Orphaned, "r1 is gone"},
		{"older boot", container.RoleBatch, []string{container.LabelBoot, "boot-1"}, owner.Orphaned, "restarted"},
		{"no boot", container.RoleBatch, []string{container.LabelBoot, ""}, owner.Orphaned, "r1 is gone"},
		{"unknown boot", container.RoleBatch, []string{container.LabelBoot, owner.NoBoot}, owner.Orphaned, "r1 is gone"},
		{"another host", container.RoleBatch, []string{container.LabelHost, "box-2"}, owner.Foreign, "box-2"},
		{"another host's old one", container.RoleBatch, []string{container.LabelHost, "box-2", container.LabelExpires, "2026-08-23T11:59:59Z"}, owner.Expired, "2026-08-23T11:59:59Z"},
		{"at that second", container.RoleBatch, []string{container.LabelHost, "box-2", container.LabelExpires, "2026-08-23T14:00:00+02:00"}, owner.Expired, "expired"},
		{"another host's server", container.RoleServer, []string{container.LabelHost, "box-2", container.LabelExpires, "2020-01-01T00:00:00Z"}, owner.Foreign, "box-2"},
		{"another host's, no role", "", []string{container.LabelHost, "box-2", container.LabelExpires, "2020-01-01T00:00:00Z"}, owner.Foreign, "box-2"},
		{"expiry is no time", container.RoleBatch, []string{container.LabelHost, "box-2", container.LabelExpires, "yesterday"}, owner.Foreign, "box-2"},
		{"no expiry", container.RoleBatch, []string{container.LabelHost, "box-2", container.LabelExpires, ""}, owner.Foreign, "box-2"},
		{"own host's old one is judged by its lock", container.RoleBatch, []string{container.LabelExpires, "2020-01-01T00:00:00Z"}, owner.Orphaned, "r1 is gone"},
		{"of a job", container.RoleBatch, []string{container.LabelJob, "j"}, owner.Foreign, "a job in another container"},
		{"of a job, old", container.RoleBatch, []string{container.LabelJob, "j", container.LabelExpires, "2020-01-01T00:00:00Z"}, owner.Expired, "expired"},
		{"a job's server", container.RoleServer, []string{container.LabelJob, "j", container.LabelExpires, "2020-01-01T00:00:00Z"}, owner.Foreign, "a job"},
		{"workspace not there", container.RoleBatch, []string{container.LabelWorkspace, "/not/there"}, owner.Orphaned, "r1 is gone"},
		{"a server's workspace not there", container.RoleServer, []string{container.LabelWorkspace, "/not/there", container.LabelBoot, "boot-1"}, owner.Lost, "/not/there is not there"},
		{"no host", container.RoleBatch, []string{container.LabelHost, ""}, owner.Unknown, "no host"},
		{"no run", container.RoleBatch, []string{container.LabelRun, ""}, owner.Unknown, "run label"},
		{"run leads elsewhere", container.RoleBatch, []string{container.LabelRun, "../../x"}, owner.Unknown, "run label"},
		{"run is a dot", container.RoleBatch, []string{container.LabelRun, "."}, owner.Unknown, "run label"},
		{"no workspace", container.RoleBatch, []string{container.LabelWorkspace, ""}, owner.Unknown, "workspace label"},
		{"relative workspace", container.RoleBatch, []string{container.LabelWorkspace, "a/b"}, owner.Unknown, "workspace label"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			wantVerdict(t, labels(gone, c.role, c.changes...), thisHost(), c.want, c.words)
		})
	}
}

// A job has its own file system, whatever it has of its host's name and machine ID.
func TestVerdictInAJob(t *testing.T) {
	t.Parallel()
	w := workspace(t)
	me := thisHost()
	me.Job = "mine"
	wantVerdict(t, labels(w, container.RoleBatch, container.LabelJob, "mine"), me, owner.Orphaned, "r1 is gone")
	wantVerdict(t, labels(w, container.RoleBatch, container.LabelExpires, "2026-08-23T14:00:00Z"), me, owner.Foreign, "the host of this one")
	wantVerdict(t, labels(w, container.RoleServer), me, owner.Foreign, "the host of this one")
}

func TestVerdictByLock(t *testing.T) {
	t.Parallel()
	w := workspace(t)
	lock := acquire(t, w, "r1")
	for _, role := range []container.Role{container.RoleBatch, container.RoleServer} {
		wantVerdict(t, labels(w, role), thisHost(), owner.Kept, "r1 lives")
		wantVerdict(t, labels(w, role, container.LabelRun, "r0"), thisHost(), owner.Orphaned, "r0 is gone")
	}
	must(t, lock.Release())
	must(t, lock.Release())
	wantVerdict(t, labels(w, container.RoleBatch), thisHost(), owner.Orphaned, "r1 is gone")
	if _, err := os.Stat(lock.Dir()); err != nil {
		t.Errorf("the run's folder is gone: %v", err)
	}
	must(t, acquire(t, w, "r1").Release())
}

func TestVerdictByServerFile(t *testing.T) {
	t.Parallel()
	w := workspace(t)
	lock := acquire(t, w, "r1")
	must(t, owner.WriteServer(w, server()))
	must(t, lock.Release())
	wantVerdict(t, labels(w, container.RoleServer), thisHost(), owner.Kept, "detached server")
	// A restart of this host need not be one of the container engine's.
	wantVerdict(t, labels(w, container.RoleServer, container.LabelBoot, "boot-1"), thisHost(), owner.Kept, "detached server")
	// What else that run made is not the server.
	wantVerdict(t, labels(w, container.RoleBatch), thisHost(), owner.Orphaned, "r1 is gone")
	wantVerdict(t, labels(w, container.RoleServer, container.LabelRun, "r0"), thisHost(), owner.Orphaned, "r0 is gone")

	must(t, os.Truncate(owner.ServerPath(w), 10))
	wantVerdict(t, labels(w, container.RoleServer), thisHost(), owner.Unknown, "damaged")
	wantVerdict(t, labels(w, container.RoleBatch), thisHost(), owner.Orphaned, "r1 is gone")
	must(t, owner.RemoveServer(w))
	wantVerdict(t, labels(w, container.RoleServer), thisHost(), owner.Orphaned, "r1 is gone")
}

// TestCheckersDisturbNobody lets many look while runs come and go.
func TestCheckersDisturbNobody(t *testing.T) {
	t.Parallel()
	w := workspace(t)
	must(t, os.MkdirAll(owner.RunDir(w, "free"), 0o700))
	must(t, os.WriteFile(filepath.Join(owner.RunDir(w, "free"), "lock"), nil, 0o600)) // as a killed run leaves it
	held := acquire(t, w, "held")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				// Two who look at one free lock both see it free.
				wantVerdict(t, labels(w, container.RoleBatch, container.LabelRun, "free"), thisHost(), owner.Orphaned, "was killed")
				wantVerdict(t, labels(w, container.RoleBatch, container.LabelRun, "held"), thisHost(), owner.Kept, "lives")
				owner.Verdict(labels(w, container.RoleBatch), thisHost())
			}
		})
	}
	for range 200 {
		l := acquire(t, w, "r1")
		wantVerdict(t, labels(w, container.RoleBatch), thisHost(), owner.Kept, "r1 lives")
		must(t, l.Release())
	}
	close(stop)
	wg.Wait()
	must(t, held.Release())
}

func TestAcquire(t *testing.T) {
	t.Parallel()
	w := workspace(t)
	l := acquire(t, w, "r1")
	if l.Dir() != owner.RunDir(w, "r1") {
		t.Errorf("the run's folder is %s", l.Dir())
	}
	if _, err := owner.Acquire(w, "r1"); !errors.Is(err, owner.ErrRunHeld) {
		t.Errorf("the run was acquired twice: %v", err)
	}
	must(t, l.Release())
	for _, bad := range []string{"", ".", "..", "a/b", "../x", "/x"} {
		if _, err := owner.Acquire(w, bad); err == nil {
			t.Errorf("the run %q was acquired", bad)
		}
	}
}

// TestAcquireWhileOthersForget lets one process take the lock of a run while others take it and give it up, and
// drop its folder.
func TestAcquireWhileOthersForget(t *testing.T) {
	t.Parallel()
	w := workspace(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				var err error
				if i == 0 {
					if err = owner.DropRuns(w, 0); errors.Is(err, os.ErrNotExist) {
						err = nil // no run has begun yet
					}
				} else if l, acquireErr := owner.Acquire(w, "r1"); acquireErr == nil {
					err = l.Release()
				} else if !errors.Is(acquireErr, owner.ErrRunHeld) {
					err = acquireErr
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 200 {
		l, err := owner.Acquire(w, "r1")
		if errors.Is(err, owner.ErrRunHeld) {
			continue
		}
		must(t, err)
		wantVerdict(t, labels(w, container.RoleBatch), thisHost(), owner.Kept, "r1 lives")
		must(t, l.Release())
	}
	close(stop)
	wg.Wait()
	if killed := owner.Killed(w); len(killed) > 0 {
		t.Errorf("all ended in order, and %v count as killed", killed)
	}
}

// wantDamaged wants the fault of a server file that says nothing, whose hint needs no such file.
func wantDamaged(t *testing.T, workspace string, err error, words string) {
	t.Helper()
	fault, ok := errors.AsType[*pipeline.Fault](err)
	hint := "run `" + owner.StopCommand(workspace) + "`, also if no server runs, and serve again"
	if !ok || fault.Kind != pipeline.Environment || !strings.HasPrefix(err.Error(), words) || fault.Hint != hint {
		t.Errorf("%v (hint: %s)\nwant %s (hint: %s)", err, pipeline.HintOf(err), words, hint)
	}
}

func TestServerFile(t *testing.T) {
	t.Parallel()
	w := workspace(t)
	if _, err := owner.ReadServer(w); !errors.Is(err, owner.ErrNoServer) {
		t.Errorf("before there was one: %v", err)
	}
	must(t, owner.RemoveServer(w))
	for _, want := range []owner.ServerFile{server(), {Container: "1", Run: "r2"}} {
		must(t, owner.WriteServer(w, want))
		got, err := owner.ReadServer(w)
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	for _, bad := range []owner.ServerFile{{}, {Container: "1"}, {Run: "r1"}, {Container: "1", Run: "../x"}} {
		if err := owner.WriteServer(w, bad); err == nil {
			t.Errorf("%+v was written", bad)
		}
	}
	for _, content := range []string{"", "{", "null", "[]", `{"container":"1"}`, `{"container":"1","run":"r","models":3}`} {
		must(t, os.WriteFile(owner.ServerPath(w), []byte(content), 0o600))
		_, err := owner.ReadServer(w)
		wantDamaged(t, w, err, owner.ServerPath(w)+" is damaged: ")
	}
	must(t, os.Remove(owner.ServerPath(w)))
	must(t, os.MkdirAll(filepath.Join(owner.ServerPath(w), "not", "empty"), 0o700))
	_, err := owner.ReadServer(w)
	wantDamaged(t, w, err, owner.ServerPath(w)+" is not a file")
	must(t, owner.RemoveServer(w))
	if _, err := owner.ReadServer(w); !errors.Is(err, owner.ErrNoServer) {
		t.Errorf("after it was removed: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(w, "runs", "*", "*")); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

// What a run noted of its server is found by its run alone, and keeps no container alive.
func TestServerOf(t *testing.T) {
	t.Parallel()
	w := workspace(t)
	find := func(run string, want owner.ServerFile) {
		t.Helper()
		got, err := owner.ServerOf(w, run)
		if diff := cmp.Diff(want, got); diff != "" || (want.Run == "") != errors.Is(err, owner.ErrNoServer) {
			t.Errorf("%s: %v\n%s", run, err, diff)
		}
	}
	find("r1", owner.ServerFile{})
	noted := server()
	noted.Command = []string{"serve", "--weights=random:7"}
	must(t, owner.NoteServer(w, noted))
	find("r1", noted)
	find("r2", owner.ServerFile{})
	find("../x", owner.ServerFile{})
	if _, err := owner.ReadServer(w); !errors.Is(err, owner.ErrNoServer) {
		t.Errorf("a server that was noted is the workspace's: %v", err)
	}
	wantVerdict(t, labels(w, container.RoleServer), thisHost(), owner.Orphaned, "r1 is gone")
	detached := owner.ServerFile{Container: "1", Run: "r2"}
	must(t, owner.WriteServer(w, detached))
	find("r2", detached)
	find("r1", noted)
	if err := owner.NoteServer(w, owner.ServerFile{Run: "r1"}); err == nil {
		t.Error("a server without a container was noted")
	}
	must(t, os.WriteFile(owner.ServerPath(w), []byte("{"), 0o600))
	_, err := owner.ServerOf(w, "r1")
	wantDamaged(t, w, err, owner.ServerPath(w)+" is damaged: ")
	must(t, owner.RemoveServer(w))
	note := filepath.Join(owner.RunDir(w, "r1"), "served.json")
	must(t, os.Truncate(note, 1))
	_, err = owner.ServerOf(w, "r1")
	wantDamaged(t, w, err, note+" is damaged: ")
}

func TestHere(t *testing.T) {
	t.Parallel()
	now := time.Now()
	one, err := owner.CurrentIdentity(now)
	must(t, err)
	two, err := owner.CurrentIdentity(now)
	must(t, err)
	if diff := cmp.Diff(one, two); diff != "" {
		t.Errorf("it is two hosts or boots:\n%s", diff)
	}
	name, err := os.Hostname()
	must(t, err)
	if !strings.HasPrefix(one.Host, name) || one.Boot == "" {
		t.Errorf("this host is %+v", one)
	}
	if id, err := os.ReadFile("/etc/machine-id"); err == nil && len(id) > 12 && strings.Contains(one.Host, string(id[:12])) {
		t.Error("the machine ID itself is shown")
	}
}

// The oldest runs go, unless one still lives.
func TestDropRuns(t *testing.T) {
	t.Parallel()
	workspace := t.TempDir()
	for _, id := range []string{"20260103T000000Z-c", "20260101T000000Z-a", "20260104T000000Z-d", "20260102T000000Z-b"} {
		lock, err := owner.Acquire(workspace, id)
		if err != nil {
			t.Fatal(err)
		}
		if id == "20260101T000000Z-a" {
			defer lock.Release() //nolint:errcheck // of a run that lives
		} else if err := lock.Release(); err != nil {
			t.Fatal(err)
		}
	}
	if err := owner.DropRuns(workspace, 2); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(owner.RunsDir(workspace), "*"))
	if err != nil || len(left) != 3 || owner.RunDir(workspace, "20260101T000000Z-a") != left[0] || filepath.Base(left[1]) != "20260103T000000Z-c" {
		t.Errorf("left are %q, %v", left, err)
	}
	if err := owner.DropRuns(workspace, 3); err != nil {
		t.Errorf("few runs: %v", err)
	}
	if err := owner.DropRuns(workspace, 1, "20260103T000000Z-c"); err != nil {
		t.Errorf("all but one to spare: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(owner.RunsDir(workspace), "*")); err != nil || len(left) != 3 {
		t.Errorf("left are %q, %v", left, err)
	}
	if err := owner.DropRuns(workspace, 1); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(owner.RunsDir(workspace), "*")); err != nil || len(left) != 2 {
		t.Errorf("left are %q, %v", left, err)
	}
	if err := owner.DropRuns(t.TempDir(), 3); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no runs: %v", err)
	}
}

// Only into the folder of a run that is over others may write, and none is made.
func TestEndedRunDir(t *testing.T) {
	t.Parallel()
	w := workspace(t)
	must(t, acquire(t, w, "over").Release())
	held := acquire(t, w, "alive")
	defer held.Release() //nolint:errcheck // of a run that lives
	must(t, os.MkdirAll(owner.RunDir(w, "killed"), 0o700))
	must(t, os.WriteFile(filepath.Join(owner.RunDir(w, "killed"), "lock"), nil, 0o600))
	must(t, os.Symlink(owner.RunDir(w, "over"), owner.RunDir(w, "link")))
	for run, want := range map[string]string{
		"over": owner.RunDir(w, "over"), "killed": owner.RunDir(w, "killed"), "alive": "", "gone": "", "link": "", "": "", "../runs": "",
	} {
		if got := owner.EndedRunDir(w, run); got != want {
			t.Errorf("%q: got %q, want %q", run, got, want)
		}
	}
	if got := owner.EndedRunDir("relative", "over"); got != "" {
		t.Errorf("a relative workspace: %q", got)
	}
}

// What is known of a killed run is forgotten, but not of one that somebody holds.
func TestReleaseKilled(t *testing.T) {
	t.Parallel()
	w := workspace(t)
	for _, run := range []string{"killed", "held"} {
		must(t, os.MkdirAll(owner.RunDir(w, run), 0o700))
		must(t, os.WriteFile(filepath.Join(owner.RunDir(w, run), "lock"), nil, 0o600))
	}
	killed := owner.Killed(w)
	if diff := cmp.Diff([]string{"held", "killed"}, killed); diff != "" {
		t.Fatal(diff)
	}
	held := acquire(t, w, "held")
	must(t, owner.ReleaseKilled(w, killed))
	wantVerdict(t, labels(w, container.RoleBatch, container.LabelRun, "killed"), thisHost(), owner.Orphaned, "killed is gone")
	wantVerdict(t, labels(w, container.RoleBatch, container.LabelRun, "held"), thisHost(), owner.Kept, "held lives")
	must(t, held.Release())
	if left := owner.Killed(w); len(left) > 0 {
		t.Errorf("%q are killed still", left)
	}
}

// Servers are known by their role, and all containers of dalirun by a run label of any value.
func TestLabels(t *testing.T) {
	t.Parallel()
	for role, want := range map[container.Role]bool{container.RoleServer: true, container.RoleBatch: false, "": false} {
		if owner.IsServer(labels("/w", role)) != want {
			t.Errorf("%q: %t, want %t", role, !want, want)
		}
	}
	if diff := cmp.Diff(container.Labels{container.LabelRun: ""}, owner.Labels()); diff != "" {
		t.Error(diff)
	}
}

// What changes of a server that goes on running is recorded where the server is: in the workspace's file if it is the
// workspace's, else in its run.
func TestUpdateServer(t *testing.T) {
	t.Parallel()
	w := workspace(t)
	detached := server()
	must(t, owner.WriteServer(w, detached))
	detached.Reloading = []string{"random:1"}
	must(t, owner.UpdateServer(w, detached))
	attended := owner.ServerFile{Container: "2", Run: "r2", Reloading: []string{"random:1"}}
	must(t, owner.UpdateServer(w, attended))
	for _, want := range []owner.ServerFile{detached, attended} {
		got, err := owner.ServerOf(w, want.Run)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("of %s: %v (-want +got):\n%s", want.Run, err, diff)
		}
	}
	if got, err := owner.ReadServer(w); err != nil || got.Run != detached.Run {
		t.Errorf("the workspace's is that of %q, %v", got.Run, err)
	}
	must(t, owner.RemoveServer(w))
	must(t, owner.UpdateServer(w, attended))
	if _, err := owner.ReadServer(w); !errors.Is(err, owner.ErrNoServer) {
		t.Errorf("a server of a run became the workspace's: %v", err)
	}
	must(t, os.WriteFile(owner.ServerPath(w), []byte("{"), 0o600))
	if err := owner.UpdateServer(w, attended); err == nil || errors.Is(err, owner.ErrNoServer) {
		t.Errorf("nobody knows whose the file is: %v", err)
	}
}

// A stop is noted for the run that it concerns alone, and makes no folder for a run that has none.
func TestNoteStop(t *testing.T) {
	t.Parallel()
	w := workspace(t)
	for _, run := range []string{"r1", "r2"} {
		must(t, acquire(t, w, run).Release())
	}
	for _, run := range []string{"r1", "gone", "../runs/r2", ""} {
		must(t, owner.NoteStop(w, run))
	}
	for run, want := range map[string]bool{"r1": true, "r2": false, "gone": false, "../runs/r1": false, "": false} {
		if got := owner.StopNoted(w, run); got != want {
			t.Errorf("%q: %t, want %t", run, got, want)
		}
	}
	if _, err := os.Stat(owner.RunDir(w, "gone")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder of a run that is gone: %v", err)
	}
	must(t, os.Mkdir(filepath.Join(owner.RunDir(w, "r2"), "stopped"), 0o700))
	if err := owner.NoteStop(w, "r2"); err == nil {
		t.Error("nothing says that the stop is not noted")
	}
}

// What was built last is another thing than what a server serves if either differs, and if a reload did not end. Of a
// server of which nothing is known nothing is said.
func TestServesAnother(t *testing.T) {
	t.Parallel()
	built := owner.Built{Repository: "/c/a", Arguments: []string{"--x=1"}}
	for name, c := range map[string]struct {
		built  owner.Built
		server owner.ServerFile
		want   bool
	}{
		"the same":           {built, owner.ServerFile{Repository: "/c/a", Arguments: []string{"--x=1"}}, false},
		"another repository": {built, owner.ServerFile{Repository: "/c/b", Arguments: []string{"--x=1"}}, true},
		"another argument":   {built, owner.ServerFile{Repository: "/c/a", Arguments: []string{"--x=2"}}, true},
		"no argument":        {built, owner.ServerFile{Repository: "/c/a"}, true},
		"half reloaded":      {built, owner.ServerFile{Repository: "/c/a", Arguments: []string{"--x=1"}, Reloading: []string{"random:1"}}, true},
		"another image": {
			owner.Built{Repository: "/c/a", Image: "sha256:b"}, owner.ServerFile{Repository: "/c/a", Image: "sha256:a"}, true,
		},
		"nothing is known":  {built, owner.ServerFile{}, false},
		"nothing was built": {owner.Built{}, owner.ServerFile{Repository: "/c/a"}, false},
	} {
		if got := c.built.ServesAnother(c.server); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}

// What differs of a server is told by name. What one record does not have is not known: it is no difference.
func TestServerDifferences(t *testing.T) {
	t.Parallel()
	on := func(lane, source, release string) owner.Served {
		return owner.Served{Lane: lane, Source: source, Release: release}
	}
	const is, other = "sha256:0123456789abcdef", "sha256:fedcba9876543210"
	server := owner.ServerFile{Served: on("gpu", "ngc", "25.03"), Image: is, Arguments: []string{"--pool=1", "--x"}}
	arguments := server.Arguments
	for name, c := range map[string]struct {
		built  owner.Built
		server owner.ServerFile
		want   string
	}{
		"the same":           {owner.Built{Served: server.Served, Image: is, Arguments: arguments}, server, ""},
		"other models":       {owner.Built{Served: owner.Served{Precision: "fp32", Weights: "random:7"}, Arguments: arguments}, server, ""},
		"another release":    {owner.Built{Served: on("gpu", "ngc", "25.05"), Arguments: arguments}, server, "release 25.05 (served: 25.03)"},
		"local images":       {owner.Built{Served: on("cpu", "local", ""), Arguments: arguments}, server, "lane cpu (served: gpu), images local (served: ngc)"},
		"another image":      {owner.Built{Image: other, Arguments: arguments}, server, "server image fedcba987654 (served: 0123456789ab)"},
		"other arguments":    {owner.Built{Arguments: []string{"--pool=2"}}, server, "server arguments --pool=2 (served: --pool=1 --x)"},
		"no arguments":       {owner.Built{}, server, "server arguments none (served: --pool=1 --x)"},
		"an older record":    {owner.Built{Arguments: arguments}, server, ""},
		"of an older server": {owner.Built{Served: server.Served, Image: is}, owner.ServerFile{}, ""},
	} {
		var words []string
		for _, d := range c.built.ServerDifferences(c.server) {
			words = append(words, d.String())
		}
		if got := strings.Join(words, ", "); got != c.want || c.built.NeedsRestart(c.server) != (c.want != "") {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestStopCommand(t *testing.T) {
	t.Parallel()
	for workspace, want := range map[string]string{
		"/x":            "dalirun stop --workspace /x",
		"/a b/.dalirun": "dalirun stop --workspace '/a b/.dalirun'",
	} {
		if got := owner.StopCommand(workspace); got != want {
			t.Errorf("%s; want %s", got, want)
		}
	}
}

// Another user's folder is not root's own: what root writes there would be root's.
func TestIsOwn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if !owner.IsOwn(dir) {
		t.Error("a folder of this user is not its own")
	}
	if os.Getuid() != 0 {
		needtest.Missing(t, "only root can give a folder away")
	}
	must(t, os.Chown(dir, 10001, 10001))
	if owner.IsOwn(dir) {
		t.Error("a folder of another user is root's own")
	}
}
