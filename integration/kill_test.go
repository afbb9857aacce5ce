//go:build integration

package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// kill is a signal at a moment of a run. The moment is a state of the run, so that it is the same on a slow machine.
type kill struct {
	signal syscall.Signal
	at     moment
	user   bool     // the run is an ordinary user's
	args   []string // of the run that is killed, beside the lane's flags; e2e if empty
}

// moment waits until a run has come to a point.
type moment struct {
	name  string
	reach func(t *testing.T, v *victim)
}

// victim is a run that is to be killed.
type victim struct {
	*process
	cache   string
	created *created
}

// event is when the run tells of something. The texts are those of one line of --progress json.
func event(step pipeline.ID, kind, text string) moment {
	return moment{strings.TrimSpace(fmt.Sprintf("%s %s %s", step, kind, text)), func(t *testing.T, v *victim) {
		t.Helper()
		head := fmt.Sprintf(`"step":"%s","kind":"%s"`, step, kind)
		v.until(t, head+" "+text, func() bool {
			for line := range strings.Lines(v.stderr.String()) {
				if strings.Contains(line, head) && strings.Contains(line, text) {
					return true
				}
			}
			return false
		})
	}}
}

func started(step pipeline.ID) moment { return event(step, "step.started", "") }

// containerOf is when the engine has created the container of a step.
func containerOf(step pipeline.ID) moment {
	return moment{"container of " + string(step), func(t *testing.T, v *victim) {
		t.Helper()
		v.until(t, "the container of "+string(step), func() bool { return v.created.hasStep(string(step)) })
	}}
}

// commit is when the first result is about to be committed.
func commit() moment {
	return moment{"commit", func(t *testing.T, v *victim) {
		t.Helper()
		v.until(t, "a commit", func() bool {
			staged, err := filepath.Glob(filepath.Join(v.cache, "tmp", "*", "entry"))
			return err == nil && len(staged) > 0
		})
	}}
}

// after is a time since the start: it hits what no event tells of.
func after(d time.Duration) moment {
	return moment{d.String(), func(t *testing.T, v *victim) {
		t.Helper()
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-v.ended:
			t.Fatalf("it ended within %s:\n%s", d, &v.stderr)
		}
	}}
}

// created are the steps whose containers an engine has created for a workspace, by its events.
type created struct {
	mu    sync.Mutex
	steps map[string]bool
}

func (c *created) hasStep(step string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.steps[step]
}

func watch(t *testing.T, e engine, workspace string) *created {
	t.Helper()
	c := &created{steps: map[string]bool{}}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	messages, _ := e.client(t).Events(ctx, events.ListOptions{Filters: filters.NewArgs(
		filters.Arg("type", "container"), filters.Arg("event", "create"), filters.Arg("label", container.LabelWorkspace+"="+workspace),
	)})
	go func() {
		for {
			select {
			case m := <-messages:
				c.mu.Lock()
				c.steps[m.Actor.Attributes[container.LabelStep]] = true
				c.mu.Unlock()
			case <-ctx.Done():
				return
			}
		}
	}()
	return c
}

// scene is where kills happen.
type scene struct {
	engine engine
	opts   opts
	cache  string
	flags  []string
}

// play kills a run, and looks whether the next start finds nothing of it and the run after that succeeds.
func (s scene) play(t *testing.T, k kill) {
	t.Helper()
	space := workspace(s.opts.Dir)
	args := append([]string{"e2e"}, s.flags...)
	if len(k.args) > 0 { // of a flag that is given twice the last counts
		args = slices.Concat(k.args[:1], s.flags, k.args[1:])
	}
	created := watch(t, s.engine, space)
	v := &victim{process: start(t, s.engine, s.opts, append(args, "--progress", "json")...), cache: s.cache, created: created}
	k.at.reach(t, v)
	killed := time.Now()
	v.signal(t, k.signal)
	r := v.wait(t)
	took := time.Since(killed)
	if want := 128 + int(k.signal); r.Code != want {
		t.Fatalf("exit code %d, want %d\n%s", r.Code, want, r.Stderr)
	}
	if k.signal != syscall.SIGKILL {
		t.Logf("it ended %s after %s", took.Round(time.Millisecond), k.signal)
		if took > 20*time.Second { // 10 s are what CI runners give; this machine may be busy
			t.Errorf("it took %s to end", took)
		}
		if left := s.engine.containers(t, space); len(left) != 0 {
			t.Errorf("it cleaned up and left %v", left)
		}
	}
	mustRun(t, 0, s.engine, s.opts, "gc", "--cache-dir", s.cache) // clears away as every start does
	s.clean(t)
	r = mustRun(t, 0, s.engine, s.opts, append([]string{"e2e"}, s.flags...)...)
	s.clean(t)
	if strings.Contains(r.Stderr, "built again") {
		t.Errorf("a half-made result was taken for a whole one:\n%s", r.Stderr)
	}
}

// clean fails the test if a dead run has left anything.
func (s scene) clean(t *testing.T) {
	t.Helper()
	if left := s.engine.containers(t, workspace(s.opts.Dir)); len(left) != 0 {
		t.Errorf("containers are left: %v", left)
	}
	if u := s.opts.User; u != nil {
		if foreign := append(u.foreign(t, s.opts.Dir), u.foreign(t, s.cache)...); len(foreign) > 0 {
			t.Errorf("not the user's: %v", foreign)
		}
	}
	soundCache(t, s.cache)
}

// TestKillOnStubs kills runs of the GPU lane, each with an empty cache.
func TestKillOnStubs(t *testing.T) {
	t.Parallel()
	began := time.Now()
	t.Cleanup(func() { t.Logf("all of it took %s", time.Since(began).Round(time.Millisecond)) })
	l := newLane(t)
	hanging := []string{"--registry", l.variant(t, "hang")}
	const int, term, hup, kil = syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGKILL
	kills := []kill{
		{int, started(steps.IDWeights), false, nil},
		{term, containerOf(steps.IDWeights), true, nil},
		{kil, containerOf(steps.IDWeights), false, nil},
		{kil, commit(), true, nil},
		{term, commit(), false, nil},
		{int, containerOf(steps.IDExportONNX), true, nil},
		{kil, started(steps.IDExportONNX), false, nil},
		{hup, containerOf(steps.IDBuildEngine), false, nil},
		{kil, containerOf(steps.IDBuildEngine), true, nil},
		{term, event(steps.IDBuildEngine, "step.line", ""), false, nil},
		{kil, event(steps.IDSerializeDALI, "step.ended", "done"), false, nil},
		{int, started(steps.IDAssembleRepository), false, nil},
		{kil, containerOf(steps.IDServe), true, nil},
		{term, event(steps.IDServe, "step.progress", "loading resnet50_trt"), false, append([]string{"e2e"}, hanging...)},
		{kil, event(steps.IDServe, "step.progress", "loading resnet50_trt"), false, append([]string{"serve", "--detach"}, hanging...)},
		{int, event(steps.IDServe, "step.progress", "loading resnet50_trt"), true, append([]string{"serve"}, hanging...)},
		{kil, event(steps.IDServe, "step.ended", "done"), false, []string{"serve"}},
	}
	random := rand.New(rand.NewPCG(3, 2)) // the same delays each time
	for i := range 3 {
		kills = append(kills, kill{signal: []syscall.Signal{int, term, kil}[i], at: after(time.Duration(250*i+random.IntN(250)) * time.Millisecond)})
	}
	// Children of a process under nohup ignore SIGHUP. Of one that asks for it, which os/exec undoes for them, they do not.
	hangUps := make(chan os.Signal, 1)
	signal.Notify(hangUps, hup)
	t.Cleanup(func() { signal.Stop(hangUps) })
	for i, k := range kills {
		t.Run(fmt.Sprintf("%02d %s at %s", i+1, k.signal, k.at.name), func(t *testing.T) {
			t.Parallel()
			o := l.opts(t)
			if k.user {
				u := ordinary(t, l.engine)
				o.User, o.Dir = &u, u.folder(t)
			}
			s := scene{engine: l.engine, opts: o, cache: filepath.Join(o.Dir, ".cache", "dalirun"), flags: flags(stubRegistry, "25.03")}
			s.play(t, k)
		})
	}
}

// TestKillOnCPULane kills real runs, in turn and with one cache.
func TestKillOnCPULane(t *testing.T) { //nolint:tparallel // its subtests share a cache, in which each looks for what it left itself
	t.Parallel()
	first := cpuLane(t)
	first.bystanders(t)
	began := time.Now()
	t.Cleanup(func() { t.Logf("all of it took %s", time.Since(began).Round(time.Millisecond)) })
	u := ordinary(t, first.engine)
	mine, theirs := first.withOwnCache(t, nil), first.withOwnCache(t, &u)
	const int, term, kil = syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL
	force := func(step pipeline.ID) []string { return []string{"e2e", "--force", string(step)} }
	for i, k := range []kill{ //nolint:paralleltest // see above
		{term, containerOf(steps.IDExportONNX), false, force(steps.IDExportONNX)},
		{kil, started(steps.IDExportONNX), true, force(steps.IDExportONNX)},
		{kil, commit(), false, force(steps.IDExportONNX)},
		{int, containerOf(steps.IDSerializeDALI), true, force(steps.IDSerializeDALI)},
		{kil, containerOf(steps.IDReference), false, force(steps.IDReference)},
		{int, containerOf(steps.IDServe), false, nil},
		{kil, event(steps.IDServe, "step.progress", "loading dali"), true, []string{"serve", "--detach"}},
		{term, event(steps.IDServe, "step.progress", "loading resnet50_onnx"), false, nil},
		{kil, event(steps.IDServe, "step.progress", "warming up"), false, []string{"serve"}},
		{int, started(steps.IDVerify), false, nil},
	} {
		t.Run(fmt.Sprintf("%02d %s at %s", i+1, k.signal, k.at.name), func(t *testing.T) {
			c, o := mine, opts{Dir: t.TempDir()}
			if k.user {
				c, o = theirs, opts{Dir: u.folder(t), User: &u}
			}
			scene{engine: c.engine, opts: o, cache: c.cache, flags: c.args("")[1:]}.play(t, k)
		})
	}
}
