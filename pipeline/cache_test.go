package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/pipeline/pipelinetest"
)

func warnings(s *sink, id pipeline.ID) []string {
	var texts []string
	for _, w := range emitted[pipeline.Warning](s, id) {
		texts = append(texts, w.Text)
	}
	return texts
}

const (
	damagedNow   = "cache entry is damaged: model.onnx was changed"
	damagedModel = damagedNow + "; it is built again"
)

// What a look at the entry shows is known before anything runs.
func TestTruncatedEntry(t *testing.T) {
	t.Parallel()
	r, w := warm(t)
	pipelinetest.Truncate(t, r.path("export-onnx", "model.onnx"))
	// It is built again as it was, so its reader need not be.
	r.mustRun(ends{"exporter-image": pipeline.Cached, "export-onnx": pipeline.Done, "assemble-repository": pipeline.Cached}, w.steps()...)
	if diff := cmp.Diff([]string{damagedModel}, warnings(r.sink, "export-onnx")); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
	r.mustRun(allCached, w.steps()...)
	if got := warnings(r.sink, "export-onnx"); len(got) > 0 {
		t.Errorf("it is still damaged: %v", got)
	}
}

// What only its content shows is found when a step is about to read it. A step that is not read is not hashed.
func TestRottenEntry(t *testing.T) {
	t.Parallel()
	r, w := warm(t)
	pipelinetest.Rot(t, r.path("export-onnx", "model.onnx"))
	r.mustRun(allCached, w.steps()...)

	w.folder.facts = facts(pipeline.Facts{"labels": "more"})
	read := ""
	w.folder.do = func(ctx context.Context, work *pipeline.Work) error {
		content, err := os.ReadFile(work.Input(out("export-onnx", "model.onnx")).Path)
		read = string(content)
		return errors.Join(err, w.folder.write(ctx, work))
	}
	r.mustRun(ends{"exporter-image": pipeline.Cached, "export-onnx": pipeline.Done, "assemble-repository": pipeline.Done}, w.steps()...)
	if want := "exporter-image/image(registry/exporter-image sha256:1) export-onnx map[argv:export --opset 17 seed:1]"; read != want {
		t.Errorf("the reader got %q, want %q", read, want)
	}
	if diff := cmp.Diff([]string{damagedModel}, warnings(r.sink, "export-onnx")); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
	r.wantStory("export-onnx", "Fingerprinted", "Decided will run, because "+damagedNow, "Warning", "Started", "Ended done")
}

// wantStory wants the events of a step in the last run to be those.
func (r *rig) wantStory(id pipeline.ID, want ...string) {
	r.t.Helper()
	var got []string
	for _, e := range r.sink.events {
		if e.Step != id {
			continue
		}
		switch p := e.Payload.(type) {
		case pipeline.Decided:
			got = append(got, "Decided "+p.String())
		case pipeline.Ended:
			got = append(got, "Ended "+string(p.State))
		default:
			got = append(got, strings.TrimPrefix(fmt.Sprintf("%T", p), "pipeline."))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		r.t.Errorf("events of %s (-want +got):\n%s", id, diff)
	}
}

// The last step's result is read by whoever asked for it.
func TestRottenGoal(t *testing.T) {
	t.Parallel()
	r, w := warm(t)
	pipelinetest.Rot(t, r.path("assemble-repository", "repository"))
	const verdict = "will run, because cache entry is damaged: repository was changed"
	r.wantPlan(map[pipeline.ID]string{"exporter-image": "present", "export-onnx": "cached", "assemble-repository": verdict}, w.steps()...)
	r.mustRun(ends{"exporter-image": pipeline.Cached, "export-onnx": pipeline.Cached, "assemble-repository": pipeline.Done}, w.steps()...)
	r.wantStory("assemble-repository", "Fingerprinted", "Decided "+verdict, "Warning", "Started", "Ended done")
}

// What is planned of a step whose reader runs is known only when its content was hashed, and so on up the list.
func TestPlanOfRottenEntries(t *testing.T) {
	t.Parallel()
	r, w := warm(t)
	pipelinetest.Rot(t, r.path("export-onnx", "model.onnx"))
	r.wantPlan(map[pipeline.ID]string{"exporter-image": "present", "export-onnx": "cached", "assemble-repository": "cached"}, w.steps()...)
	pipelinetest.Rot(t, r.path("assemble-repository", "repository"))
	want := map[pipeline.ID]string{
		"exporter-image": "present", "export-onnx": "will run, because " + damagedNow,
		"assemble-repository": "will run, because cache entry is damaged: repository was changed",
	}
	r.wantPlan(want, w.steps()...)
	r.mustRun(ends{"exporter-image": pipeline.Cached, "export-onnx": pipeline.Done, "assemble-repository": pipeline.Done}, w.steps()...)
	for id, verdict := range want {
		if got := r.decided(id); got != verdict {
			t.Errorf("the run decided of %s: %q, the plan %q", id, got, verdict)
		}
	}
}

// TestCachedIsToldInTime: a result that nothing reads is told of as soon as that is known, while what reads the others still runs.
func TestCachedIsToldInTime(t *testing.T) {
	t.Parallel()
	r, w := warm(t)
	serve := &plain{id: "serve", in: []pipeline.Output{out("assemble-repository", "repository")}, outs: []string{"x"}}
	serve.do = func(_ context.Context, work *pipeline.Work) error {
		for _, id := range []pipeline.ID{"exporter-image", "export-onnx", "assemble-repository"} {
			if ended := emitted[pipeline.Ended](r.sink, id); len(ended) != 1 || ended[0].State != pipeline.Cached {
				t.Errorf("while serve runs, %s has the ends %v", id, ended)
			}
		}
		work.Set("x", pipeline.Value{})
		return nil
	}
	// What leads nowhere reads nothing, and holds nothing up.
	idle := &builder{plain: plain{id: "idle", in: []pipeline.Output{out("export-onnx", "model.onnx")}, outs: []string{"y"}}}
	goal := &plain{id: "goal", in: []pipeline.Output{out("serve", "x")}}
	if err := r.run(t.Context(), append(w.steps(), serve, idle, goal)...); err != nil {
		t.Fatal(err)
	}
	r.wantStory("export-onnx", "Fingerprinted", "Decided cached", "Ended cached")
}

// A run that fails before a stored result is hashed does not call it good.
func TestUncheckedInFailedRun(t *testing.T) {
	t.Parallel()
	r, w := warm(t)
	w.image.present, w.image.known = "", "sha256:1"
	examined := make(chan struct{})
	w.folder.facts = func(context.Context, pipeline.Inputs) (pipeline.Facts, error) {
		close(examined)
		return nil, nil
	}
	bad := &plain{id: "bad", outs: []string{"x"}, do: func(context.Context, *pipeline.Work) error {
		<-examined
		return errBroken
	}}
	last := &builder{plain: plain{id: "last", in: []pipeline.Output{out("bad", "x"), out("assemble-repository", "repository")}, outs: []string{"z"}}}
	wantStepError(t, r.run(t.Context(), append(w.steps(), bad, last)...), "bad", errBroken)
	r.wantEnds(ends{
		"exporter-image": pipeline.Skipped, "export-onnx": pipeline.Skipped, "assemble-repository": pipeline.Skipped,
		"bad": pipeline.Failed, "last": pipeline.Skipped,
	})
	for id, want := range map[pipeline.ID]string{
		"export-onnx": "the run ended before its stored result was checked", "last": "the run ended before it",
	} {
		if ended := emitted[pipeline.Ended](r.sink, id); len(ended) != 1 || ended[0].Reason != want {
			t.Errorf("%s ended with %v, want %q", id, ended, want)
		}
	}
}

// A rotten entry whose producer's image is gone needs that image after all.
func TestRottenEntryOfPrunedImage(t *testing.T) {
	t.Parallel()
	r, w := warm(t)
	pipelinetest.Rot(t, r.path("export-onnx", "model.onnx"))
	w.image.present = ""
	w.folder.facts = facts(pipeline.Facts{"labels": "more"})
	r.mustRun(allDone, w.steps()...)
}

// An entry that other inputs lead to is hashed too before it is used.
func TestRottenEntryOfRebuiltImage(t *testing.T) {
	t.Parallel()
	r, w := warm(t)
	pipelinetest.Rot(t, r.path("export-onnx", "model.onnx"))
	w.image.present, w.image.known = "", "sha256:0" // so that the entry of sha256:1 is only found after the pull
	r.mustRun(ends{"exporter-image": pipeline.Done, "export-onnx": pipeline.Done, "assemble-repository": pipeline.Cached}, w.steps()...)
	if diff := cmp.Diff([]string{damagedModel}, warnings(r.sink, "export-onnx")); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestForce(t *testing.T) {
	t.Parallel()
	r, w := warm(t)
	old := r.path("export-onnx", "model.onnx")
	r.runner.Force = map[pipeline.ID]bool{"export-onnx": true, "exporter-image": true} // only builders can be forced
	r.mustRun(ends{"exporter-image": pipeline.Cached, "export-onnx": pipeline.Done, "assemble-repository": pipeline.Cached}, w.steps()...)
	made := r.path("export-onnx", "model.onnx")
	if made == old {
		t.Error("the old result still counts")
	}
	// A forced build that fails leaves the old result.
	w.model.do = fails(errBroken)
	wantStepError(t, r.run(t.Context(), w.steps()...), "export-onnx", errBroken)
	if got := r.path("export-onnx", "model.onnx"); got != made {
		t.Errorf("got %s, want %s", got, made)
	}
	r.runner.Force = nil
	r.mustRun(allCached, w.steps()...)
}

// TestVerifiedBeforeRead: each entry is hashed once, before a reader starts, and only if it is read.
func TestVerifiedBeforeRead(t *testing.T) {
	t.Parallel()
	r, w := warm(t)
	log := &logStore{Store: r.store}
	r.runner.Store = log
	readers := func(id pipeline.ID) *plain {
		return &plain{id: id, in: []pipeline.Output{out("assemble-repository", "repository")}, outs: []string{"x"}, do: func(_ context.Context, work *pipeline.Work) error {
			log.add("run")
			work.Set("x", pipeline.Value{})
			return nil
		}}
	}
	goal := &plain{id: "goal", in: []pipeline.Output{out("a", "x"), out("b", "x")}}
	steps := append(w.steps(), readers("a"), readers("b"), goal)
	r.mustRun(ends{
		"exporter-image": pipeline.Cached, "export-onnx": pipeline.Cached, "assemble-repository": pipeline.Cached,
		"a": pipeline.Done, "b": pipeline.Done, "goal": pipeline.Done,
	}, steps...)
	if diff := cmp.Diff([]string{"verify repository", "run", "run", "close model.onnx", "close repository"}, log.lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A server is stopped before the files that it serves may be evicted.
func TestEntriesAreHeldUntilAllIsUndone(t *testing.T) {
	t.Parallel()
	r, w := warm(t)
	log := &logStore{Store: r.store}
	r.runner.Store = log
	serve := &plain{id: "serve", in: []pipeline.Output{out("assemble-repository", "repository")}, do: func(_ context.Context, work *pipeline.Work) error {
		work.Defer("stop", func(context.Context) error {
			log.add("stop")
			return nil
		})
		return nil
	}}
	if err := r.run(t.Context(), append(w.steps(), serve)...); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"verify repository", "stop", "close model.onnx", "close repository"}, log.lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// logStore notes which entries are hashed and closed.
type logStore struct {
	pipeline.Store
	mu    sync.Mutex
	lines []string
}

func (l *logStore) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
}

func (l *logStore) Get(fp pipeline.Fingerprint) (pipeline.Entry, error) {
	e, err := l.Store.Get(fp)
	if err != nil {
		return nil, err
	}
	return &logEntry{e, l}, nil
}

type logEntry struct {
	pipeline.Entry
	log *logStore
}

func (e *logEntry) Verify() error {
	for name := range e.Values() {
		e.log.add("verify " + name)
	}
	return e.Entry.Verify()
}

func (e *logEntry) Close() error {
	for name := range e.Values() {
		e.log.add("close " + name)
	}
	return e.Entry.Close()
}

// faulty is a store in which one call fails.
type faulty struct {
	pipeline.Store
	get, last, note, begin, drop, verify, closing, commit, rollback error
}

func (f *faulty) Get(fp pipeline.Fingerprint) (pipeline.Entry, error) {
	if f.get != nil {
		return nil, f.get
	}
	e, err := f.Store.Get(fp)
	if err != nil {
		return nil, err
	}
	return &faultyEntry{e, f}, nil
}

func (f *faulty) Last(workspace string, id pipeline.ID) (pipeline.Facts, error) {
	got, err := f.Store.Last(workspace, id)
	return got, errors.Join(err, f.last)
}

func (f *faulty) Note(workspace string, id pipeline.ID, facts pipeline.Facts) error {
	return errors.Join(f.note, f.Store.Note(workspace, id, facts))
}

func (f *faulty) Drop(fp pipeline.Fingerprint) error {
	if f.drop != nil {
		return f.drop
	}
	return f.Store.Drop(fp)
}

func (f *faulty) Begin(ctx context.Context, fp pipeline.Fingerprint, waiting func(string)) (pipeline.Tx, error) {
	if f.begin != nil {
		return nil, f.begin
	}
	tx, err := f.Store.Begin(ctx, fp, waiting)
	if err != nil {
		return nil, err
	}
	return &faultyTx{tx, f}, nil
}

type faultyEntry struct {
	pipeline.Entry
	faults *faulty
}

func (e *faultyEntry) Verify() error {
	if e.faults.verify != nil {
		return e.faults.verify
	}
	return e.Entry.Verify()
}

func (e *faultyEntry) Close() error { return errors.Join(e.Entry.Close(), e.faults.closing) }

type faultyTx struct {
	pipeline.Tx
	faults *faulty
}

func (t *faultyTx) Commit(id pipeline.ID, facts pipeline.Facts, outputs []string) (pipeline.Entry, error) {
	if t.faults.commit != nil {
		return nil, t.faults.commit
	}
	return t.Tx.Commit(id, facts, outputs)
}

func (t *faultyTx) Rollback() error { return errors.Join(t.Tx.Rollback(), t.faults.rollback) }

// A store that cannot be used fails the step that needs it, and nothing is taken for damaged or built in vain.
func TestStoreErrors(t *testing.T) {
	t.Parallel()
	full := errors.New("no space left on device")
	damaged := errors.Join(pipeline.ErrDamaged, errors.New("model.onnx was changed"))
	for name, c := range map[string]struct {
		store faulty
		cold  bool
		step  pipeline.ID // that fails
		ran   bool        // its work was done before
	}{
		"get":                 {store: faulty{get: full}, step: "export-onnx"},
		"last":                {store: faulty{last: full}, cold: true, step: "export-onnx"},
		"begin":               {store: faulty{begin: full}, cold: true, step: "export-onnx"},
		"commit":              {store: faulty{commit: full}, cold: true, step: "export-onnx", ran: true},
		"rollback":            {store: faulty{rollback: full}, cold: true, step: "export-onnx", ran: true},
		"verify":              {store: faulty{verify: full}, step: "assemble-repository"},
		"drop of damaged one": {store: faulty{verify: damaged, drop: full}, step: "assemble-repository"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, w := newRig(t), newWorld()
			if !c.cold {
				r.mustRun(allDone, w.steps()...)
			}
			c.store.Store = r.store
			r.runner.Store = &c.store
			err := r.run(t.Context(), w.steps()...)
			wantStepError(t, err, c.step, full)
			if ran := len(emitted[pipeline.Started](r.sink, c.step)) > 0; ran != c.ran {
				t.Errorf("the step did its work: %v, want %v", ran, c.ran)
			}
			r.runner.Store = r.store
			if err := r.run(t.Context(), w.steps()...); err != nil {
				t.Errorf("the run after it: %v", err)
			}
			if !c.cold {
				r.wantEnds(allCached)
			}
		})
	}
}

func TestNotesThatCannotBeKept(t *testing.T) {
	t.Parallel()
	r, w := newRig(t), newWorld()
	r.runner.Store = &faulty{Store: r.store, note: errBroken}
	for _, want := range []ends{allDone, allCached} {
		r.mustRun(want, w.steps()...)
		if diff := cmp.Diff([]string{errBroken.Error()}, warnings(r.sink, "export-onnx")); diff != "" {
			t.Errorf("warnings (-want +got):\n%s", diff)
		}
	}
}

func TestEntriesThatCannotBeClosed(t *testing.T) {
	t.Parallel()
	r, w := warm(t)
	r.runner.Store = &faulty{Store: r.store, closing: errBroken}
	if err := r.run(t.Context(), w.steps()...); !errors.Is(err, errBroken) {
		t.Errorf("run: got %v", err)
	}
	r.wantEnds(allCached)
	if _, err := r.runner.Plan(t.Context(), w.steps()); !errors.Is(err, errBroken) {
		t.Errorf("plan: got %v", err)
	}
}

// A result without outputs is one too.
func TestBuilderWithoutOutputs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := &builder{plain: plain{id: "check"}}
	r.mustRun(ends{"check": pipeline.Done}, b)
	r.mustRun(ends{"check": pipeline.Cached}, b)
	if !slices.Equal(warnings(r.sink, "check"), nil) {
		t.Errorf("warnings: %v", warnings(r.sink, "check"))
	}
}

// reminder tells something of its stored result.
type reminder struct{ *builder }

func (r reminder) Remind(stored pipeline.Values) []pipeline.Payload {
	return []pipeline.Payload{pipeline.Warning{Text: "it was made of " + stored["model.onnx"].Digest}}
}

// The reminder of a stored result is emitted in each run that reuses it, also if nothing reads it.
func TestReminder(t *testing.T) {
	t.Parallel()
	r, w := newRig(t), newWorld()
	list := w.steps()
	at := slices.IndexFunc(list, func(s pipeline.Step) bool { return s.ID() == "export-onnx" })
	list[at] = reminder{w.model}
	r.mustRun(allDone, list...)
	if texts := warnings(r.sink, "export-onnx"); len(texts) > 0 {
		t.Errorf("of one that was just made: %q", texts)
	}
	r.mustRun(allCached, list...)
	texts := warnings(r.sink, "export-onnx")
	if len(texts) != 1 || !strings.HasPrefix(texts[0], "it was made of sha256:") {
		t.Errorf("of a stored one: %q", texts)
	}
}
