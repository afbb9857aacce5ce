package serving

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
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/owner"
)

// slowRuntime lists a container of a dead run only from its third list on, as a container engine does that still creates it.
type slowRuntime struct {
	containertest.Fake
	late  container.Summary
	lists atomic.Int32
	gone  atomic.Bool
}

func (r *slowRuntime) List(context.Context, container.Labels) ([]container.Summary, error) {
	if r.lists.Add(1) < 3 || r.gone.Load() {
		return nil, nil
	}
	return []container.Summary{r.late}, nil
}

func (r *slowRuntime) Remove(context.Context, string) error {
	r.gone.Store(true)
	return nil
}

// livingRun is the workspace in which this program is only a run that waits for its death.
const livingRun = "DALIRUN_TEST_LIVING_RUN"

// killedRun leaves a workspace as a run does that was killed.
func killedRun(t *testing.T, workspace string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSweepAfterAKill$")
	cmd.Env = append(os.Environ(), livingRun+"="+workspace)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stdin.Close() }) // the process is gone by then
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "living\n" {
		t.Fatalf("it said %q, %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // says that it was killed
}

// TestSweepAfterAKill holds that what the container engine creates for a run after its death goes too, whenever that was, and that
// nobody waits for that otherwise.
func TestSweepAfterAKill(t *testing.T) {
	t.Parallel()
	if workspace := os.Getenv(livingRun); workspace != "" {
		if _, err := owner.Acquire(workspace, "r1"); err != nil {
			t.Fatal(err)
		}
		fmt.Println("living")
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	me, err := owner.CurrentIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	hour := time.Now().Add(-time.Hour)
	for name, tt := range map[string]struct {
		before func(t *testing.T, workspace string)
		starts int // at once
		waits  bool
	}{
		"killed":            {killedRun, 1, true},
		"killed, two start": {killedRun, 2, true},
		"killed long ago": {func(t *testing.T, workspace string) {
			t.Helper()
			killedRun(t, workspace)
			if err := os.Chtimes(filepath.Join(owner.RunDir(workspace, "r1"), "lock"), hour, hour); err != nil {
				t.Fatal(err)
			}
		}, 1, true},
		"ended in order": {func(t *testing.T, workspace string) {
			t.Helper()
			lock, err := owner.Acquire(workspace, "r1")
			if err != nil || lock.Release() != nil {
				t.Fatal(err)
			}
		}, 1, false},
		"it lives": {func(t *testing.T, workspace string) {
			t.Helper()
			lock, err := owner.Acquire(workspace, "r1")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := lock.Release(); err != nil {
					t.Error(err)
				}
			})
		}, 1, false},
		"no run yet": {func(*testing.T, string) {}, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			workspace := filepath.Join(t.TempDir(), "a [strange] *name")
			tt.before(t, workspace)
			r := &slowRuntime{late: container.Summary{ID: "1", Name: "late", Labels: container.Labels{
				container.LabelRun: "r0", container.LabelHost: me.Host, container.LabelBoot: me.Boot, container.LabelWorkspace: workspace,
				container.LabelRole: string(container.RoleBatch),
			}}}
			synctest.Test(t, func(t *testing.T) {
				sweep := func(waits bool) {
					start := time.Now()
					_, err := Servers{Runtime: r, Me: me}.Sweep(t.Context(), workspace)
					if took := time.Since(start); err != nil || (took >= inFlight) != waits || took > inFlight+time.Second {
						t.Errorf("after %s: %v", took, err)
					}
				}
				var wg sync.WaitGroup
				for range tt.starts {
					wg.Go(func() { sweep(tt.waits) })
				}
				wg.Wait()
				if r.gone.Load() != tt.waits {
					t.Errorf("of what came late it removed everything: %t", r.gone.Load())
				}
				r.gone.Store(true)
				sweep(false)
			})
		})
	}
}

// TestSweepCutOff holds that a sweep after a kill that could not go on to its end is done again.
func TestSweepCutOff(t *testing.T) {
	t.Parallel()
	workspace := t.TempDir()
	dir := owner.RunDir(workspace, "r1")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600); err != nil { // as a killed run leaves it
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), inFlight/4)
		defer cancel()
		r := &slowRuntime{}
		r.gone.Store(true)
		_, err := Servers{Runtime: r, Me: owner.Identity{Host: "here"}}.Sweep(ctx, workspace)
		if !errors.Is(err, context.DeadlineExceeded) || len(owner.Killed(workspace)) != 1 {
			t.Errorf("%v, and killed were %v", err, owner.Killed(workspace))
		}
	})
}

// Only what is nobody's is swept: of other hosts what has expired and, if that is asked for, all but the servers.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	alive, dead := t.TempDir(), t.TempDir()
	attended(t, alive)
	const role, batch = container.LabelRole, string(container.RoleBatch)
	past, future := me().Now.Add(-time.Hour).Format(time.RFC3339), me().Now.Add(time.Hour).Format(time.RFC3339)
	e := &engine{}
	for name, c := range map[string]container.Summary{
		"alive": serverIn(alive, "", role, batch), "dead": serverIn(dead, "", role, batch), "dead server": serverIn(dead, ""),
		"foreign":        serverIn(dead, "", role, batch, container.LabelHost, "there", container.LabelExpires, future),
		"foreign server": serverIn(dead, "", container.LabelHost, "there", container.LabelExpires, past),
		"expired":        serverIn(dead, "", role, batch, container.LabelHost, "there", container.LabelExpires, past),
		"unknown":        serverIn("relative", "", role, batch),
		"deleted":        serverIn(filepath.Join(dead, "deleted"), "", role, batch),
		"lost":           serverIn(filepath.Join(dead, "unmounted"), ""),
		"another job's":  serverIn(dead, "", role, batch, container.LabelJob, "j", container.LabelExpires, future),
		"job":            {Running: true},
	} {
		c.ID, c.Name = name, name
		if name == "job" {
			c.ID = "j"
		}
		e.all = append(e.all, c)
	}
	s := serversOn(e)
	for _, c := range []struct {
		also []owner.State
		want []string
	}{
		{nil, []string{"dead", "dead server", "deleted", "expired"}},
		{[]owner.State{owner.Lost}, []string{"dead", "dead server", "deleted", "expired", "lost"}},
		{[]owner.State{owner.Foreign}, []string{"another job's", "dead", "dead server", "deleted", "expired", "foreign"}},
	} {
		found, err := s.Leftovers(t.Context(), c.also...)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, l := range found {
			if names = append(names, l.Name); l.container.ID != l.Name || l.Name == "dead" && l.Reason != "its run r1 is gone" {
				t.Errorf("%+v", l)
			}
		}
		slices.Sort(names)
		if diff := cmp.Diff(c.want, names); diff != "" {
			t.Errorf("also %q (-want +got):\n%s", c.also, diff)
		}
	}
	if done := e.noted(); len(done) > 0 {
		t.Errorf("a look changes something: %q", done)
	}
	removed, err := s.Sweep(t.Context(), alive)
	if done := e.noted(); err != nil || len(removed) != 4 || len(done) != 4 {
		t.Errorf("removed are %+v, %v, %q", removed, err, done)
	}
}

// stubborn does not remove one of its containers.
type stubborn struct {
	*engine

	id  string
	why error
}

func (s stubborn) Remove(ctx context.Context, id string) error {
	if id == s.id {
		return s.why
	}
	return s.engine.Remove(ctx, id)
}

// A container that cannot be removed keeps no other one from it, and is not told of as removed.
func TestSweepFails(t *testing.T) {
	t.Parallel()
	w := t.TempDir()
	first, second := serverIn(w, ""), serverIn(w, "")
	first.ID, first.Name, second.ID, second.Name = "1", "first", "2", "second"
	e := &engine{all: []container.Summary{first, second}}
	why := errors.New("removal is in progress")
	s := serversOn(e)
	s.Runtime = stubborn{e, "1", why}
	removed, err := s.Sweep(t.Context(), w)
	if len(removed) != 1 || removed[0].Name != "second" {
		t.Errorf("removed are %+v", removed)
	}
	if !errors.Is(err, why) || !strings.HasPrefix(err.Error(), "remove container first: ") {
		t.Error(err)
	}
}

// What a job made that was a container itself is nobody's once that container has ended, but for a server, which may have
// been left on purpose.
func TestSweepOfEndedJobs(t *testing.T) {
	t.Parallel()
	var f containertest.Fake
	stop := make(chan struct{})
	f.AddLocal("job", containertest.Image{Main: func(ctx context.Context, _ container.Spec, _ container.Streams) int {
		select {
		case <-stop:
		case <-ctx.Done():
		}
		return 0
	}})
	start := func(role container.Role, labels container.Labels) container.Container {
		t.Helper()
		f.Labels = labels
		c, err := f.Run(t.Context(), container.Spec{Step: "s", Image: "job", Role: role, Init: true}, container.Streams{})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	living, ended := start(container.RoleBatch, nil), start(container.RoleBatch, nil)
	if err := ended.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	me, err := owner.CurrentIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s := Servers{Runtime: &f, Me: me}
	of := func(job string) container.Labels {
		labels := owner.RunLabels(owner.Identity{Host: "a job", Boot: me.Boot, Now: me.Now}, "20261127T000000Z-000001", "/builds/.dalirun", "1")
		if job != "" {
			labels[container.LabelJob] = job
		}
		return labels
	}
	want := map[string]bool{}
	for _, c := range []struct {
		role container.Role
		job  string
		goes bool
	}{
		{container.RoleBatch, living.ID(), false},
		{container.RoleBatch, ended.ID(), true},
		{container.RoleBatch, "0123456789abcdef", true}, // its container was removed
		{container.RoleBatch, "", false},
		{container.RoleServer, ended.ID(), false},
	} {
		if name := start(c.role, of(c.job)).Name(); c.goes {
			want[name] = true
		}
	}
	removed, err := s.Sweep(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range removed {
		if !want[l.Name] || !strings.Contains(l.Reason, "the job that made it, in the container ") {
			t.Errorf("%s goes: %s", l.Name, l.Reason)
		}
		delete(want, l.Name)
	}
	if len(want) > 0 {
		t.Errorf("these stay: %v", want)
	}
}
