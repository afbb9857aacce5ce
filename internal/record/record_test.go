package record_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/dalirun/dalirun/internal/bundle"
	"github.com/dalirun/dalirun/internal/cause"
	"github.com/dalirun/dalirun/internal/record"
	"github.com/dalirun/dalirun/internal/tooltest"
	"github.com/dalirun/dalirun/pipeline"
)

var began = time.Date(2026, 11, 28, 1, 2, 3, 4e6, time.UTC)

func options() record.Options {
	return record.Options{
		Program: "1.2.3", Command: "e2e", Started: began,
		Redactor: bundle.New("/home/maria", "maria", []string{"NGC_API_KEY=a-key-of-ngc"}),
	}
}

func create(t *testing.T, path string) *record.Writer {
	t.Helper()
	w, err := record.Create(path, options())
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func open(t *testing.T, path string) *record.Record {
	t.Helper()
	r, err := record.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func emit(w *record.Writer, step pipeline.ID, p pipeline.Payload) {
	w.Emit(pipeline.Event{Run: "r1", Time: began, Step: step, Payload: p})
}

// story is a run whose engine could not be built.
func story(w *record.Writer) {
	w.SetRun("r1")
	w.AddJSON(record.RequestFile, map[string]any{"command": "e2e", "workspace": "/home/maria/.dalirun"})
	w.AddBytes(record.PictureFile, []byte{0xff, 0xd8, 0, 1})
	emit(w, "", pipeline.RunStarted{Steps: []pipeline.ID{"server-image", "build-engine"}, Facts: map[string]string{"lane": "gpu"}})
	emit(w, "server-image", pipeline.Ended{State: pipeline.Cached, Digests: map[string]string{"image": "sha256:aa"}})
	emit(w, "build-engine", pipeline.Fingerprinted{Fingerprint: "f", Facts: pipeline.Facts{"precision": "fp16"}})
	emit(w, "build-engine", pipeline.Started{})
	emit(w, "build-engine", pipeline.Line{Text: "token=a-key-of-ngc of \x1b[31mmaria\x1b[0m"})
	emit(w, "build-engine", pipeline.Line{Text: "[E] no implementation"})
	emit(w, "build-engine", pipeline.Ended{State: pipeline.Failed, Elapsed: 2 * time.Second, Err: errors.New("trtexec exited with status 1")})
	emit(w, "", pipeline.RunEnded{Elapsed: 3 * time.Second, Err: errors.New("build-engine: trtexec exited with status 1")})
}

// A record has what was put in, without secrets, and is the same for the same run.
func TestRecord(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var made [][]byte
	for i := range 2 {
		path := filepath.Join(dir, strconv.Itoa(i)+record.Suffix)
		w := create(t, path)
		story(w)
		if i > 0 { // whenever it was written
			w.Snapshot()
		}
		w.AddJSON(record.FailureFile, cause.Failure{Text: "build-engine: trtexec exited with status 1", Kind: pipeline.ContainerFailed, Step: "build-engine", ExitCode: 4})
		if err := errors.Join(w.Close(), w.Close()); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, content)
		about, err := os.Stat(path)
		if err != nil || about.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", about.Mode(), err)
		}
	}
	if !bytes.Equal(made[0], made[1]) {
		t.Error("the same run made two different records")
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.new")); err != nil || left != nil {
		t.Errorf("left: %q, %v", left, err)
	}
	r := open(t, filepath.Join(dir, "0"+record.Suffix))
	want := []string{"record.json", "failure.json", "request.json", "events.jsonl", "logs/build-engine.log", "picture"}
	if diff := cmp.Diff(want, r.Files()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	log, err := r.File(record.LogFile("build-engine"))
	if err != nil || string(log) != "2026-11-28T01:02:03.004Z token=[redacted]\n2026-11-28T01:02:03.004Z [E] no implementation\n" {
		t.Errorf("%q, %v", log, err)
	}
	for _, name := range r.Files() {
		if content, err := r.File(name); err != nil || strings.Contains(string(content), "maria") || strings.Contains(string(content), "a-key-of-ngc") {
			t.Errorf("%s, %v:\n%s", name, err, content)
		}
	}
	if _, err := r.File("engine"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a member that is not there: %v", err)
	}
	s := record.Summarize(r)
	if s.Outcome != record.Failed || *s.ExitCode != 4 || s.Cause == nil || s.Cause.ID != "step-fails" || s.Cause.Step != "build-engine" || s.Images["server-image"] != "sha256:aa" || r.Cut != nil {
		t.Errorf("%+v, cut: %v", s, r.Cut)
	}
}

// Wherever a record ends, what is before that can be read, and the more there is of it the more is told.
func TestCutRecord(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "r"+record.Suffix)
	w := create(t, path)
	story(w)
	w.Snapshot()
	growing, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	w.AddJSON(record.FailureFile, cause.Failure{Text: "build-engine: trtexec exited with status 1", Kind: pipeline.ContainerFailed, Step: "build-engine", ExitCode: 4})
	w.AddJSON(record.CauseFile, cause.Cause{ID: "step-fails", Turn: cause.Product, Step: "build-engine"})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"of a killed run": growing, "copied in part": whole} {
		read, events := 0, 0
		const step = 13 // bytes; no frame is that short
		for length := 0; length < len(content); length += step {
			if err := os.WriteFile(path, content[:length], 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := record.Open(path)
			if err != nil {
				if read > 0 || !errors.Is(err, record.ErrNoRecord) {
					t.Fatalf("%s, %d bytes: %v", name, length, err)
				}
				continue
			}
			read++
			if r.Cut == nil {
				t.Fatalf("%s, %d bytes: it is not cut", name, length)
			}
			s := record.Summarize(r)
			if s.Outcome == record.Passed || s.Cause != nil && s.Cause.ID != "killed" && (s.Outcome != record.Failed || s.Cause.ID != "step-fails") {
				t.Fatalf("%s, %d bytes: the run failed, and it is told that it is %+v", name, length, s)
			}
			told := len(s.Steps)
			if told < events {
				t.Fatalf("%s, %d bytes: %d steps, and before that %d", name, length, told, events)
			}
			events = told
		}
		if read == 0 {
			t.Errorf("%s: nothing could be read", name)
		}
	}
	if err := os.WriteFile(path, growing, 0o600); err != nil {
		t.Fatal(err)
	}
	s := record.Summarize(open(t, path))
	if s.Outcome != record.Killed || s.Cause == nil || s.Cause.ID != "killed" || s.Cause.Turn != cause.Infrastructure || s.Run != "r1" || len(s.Steps) != 2 || s.Cut == "" {
		t.Errorf("%+v", s)
	}
}

// What came is in the file within a second, whatever becomes of the process.
func TestRecordGrows(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "r"+record.Suffix)
	synctest.Test(t, func(t *testing.T) {
		w := create(t, path)
		story(w)
		time.Sleep(time.Second)
		synctest.Wait()
		if log, err := open(t, path).File(record.LogFile("build-engine")); err != nil || !strings.Contains(string(log), "no implementation") {
			t.Errorf("%s, %v", log, err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A server that prints without end makes neither a file nor memory without end: begin and end of what it printed stay.
func TestRecordIsBounded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "r"+record.Suffix)
	w := create(t, path)
	const lines = 400_000
	pad := strings.Repeat("x", 80)
	for i := range lines {
		emit(w, "serve", pipeline.Line{Text: fmt.Sprintf("line %d %s", i, pad)})
		if i%50_000 == 0 {
			w.Snapshot()
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	log, err := open(t, path).File(record.LogFile("serve"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(log)
	if len(log) > 6<<20 || !strings.Contains(text, " line 0 ") || !strings.Contains(text, fmt.Sprintf(" line %d ", lines-1)) || !strings.Contains(text, "lines are left out here]") {
		t.Errorf("%d bytes, from %.60q to %q", len(log), text, text[len(text)-100:])
	}
}

// No file of somebody else's is replaced, and an older record is.
func TestCreateReplacesRecordsAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "r"+record.Suffix)
	for range 2 {
		if err := create(t, path).Close(); err != nil {
			t.Fatal(err)
		}
	}
	model := filepath.Join(dir, "model.onnx")
	if err := os.WriteFile(model, []byte("weights"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{model, dir} {
		if _, err := record.Create(other, options()); err == nil {
			t.Errorf("%s was replaced", other)
		}
	}
	if content, err := os.ReadFile(model); err != nil || string(content) != "weights" {
		t.Errorf("%q, %v", content, err)
	}
	link := filepath.Join(dir, "latest"+record.Suffix)
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	linked := create(t, link)
	story(linked)
	if err := linked.Close(); err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(link); err != nil || to != path || open(t, path).Header.Run != "r1" {
		t.Errorf("the link is %q, %v, and its file has the run %q", to, err, open(t, path).Header.Run)
	}
	if _, err := record.Create(filepath.Join(dir, "none", "r"), options()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in no folder: %v", err)
	}
	if _, err := record.Open(model); !errors.Is(err, record.ErrNoRecord) {
		t.Errorf("a model: %v", err)
	}
	if _, err := record.Open(dir); err == nil {
		t.Error("a folder of no run is read")
	}
}

// A second run does not write the record of one that is at work, at any time of that.
func TestCreateRefusesWhatIsWritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "r"+record.Suffix)
	w := create(t, path)
	for range 2 {
		if _, err := record.Create(path, options()); !errors.Is(err, record.ErrHeld) {
			t.Errorf("%v", err)
		}
		const more = 17 << 20 // than are appended before the record is written anew
		for range 17 {
			emit(w, "serve", pipeline.Line{Text: strings.Repeat("x", more/17)})
		}
		w.Snapshot()
	}
	story(w)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if r := open(t, path); r.Cut != nil || r.Header.Run != "r1" {
		t.Errorf("%+v, cut: %v", r.Header, r.Cut)
	}
	if err := create(t, path).Close(); err != nil {
		t.Error(err)
	}
}

// A record that cannot be written anew at the end stands as it was written, and says that the run ended.
func TestCloseWithoutRoomForAnother(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "r"+record.Suffix)
	w := create(t, path)
	emit(w, "", pipeline.RunStarted{Steps: []pipeline.ID{"verify"}})
	emit(w, "", pipeline.RunEnded{Elapsed: time.Second})
	if err := os.Rename(dir, dir+".moved"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	if s := record.Summarize(open(t, filepath.Join(dir+".moved", "r"+record.Suffix))); s.Outcome != record.Passed {
		t.Errorf("%+v", s)
	}
}

// A file of some bytes that says it holds gigabytes is no record, whichever member it says that of.
func TestOpenBounds(t *testing.T) {
	t.Parallel()
	header, err := json.Marshal(record.Header{Version: record.Version, Program: "1.2.3", Complete: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		size  int64
		is    error // nil is a record
		isCut bool
	}{
		{"picture", 1 << 20, nil, true},
		{record.ModelFile, 1 << 30, nil, true},
		{"picture", 257 << 20, record.ErrNoRecord, false},
		{record.ModelFile, 3 << 30, record.ErrNoRecord, false},
		{"logs/x.log", 1 << 62, record.ErrNoRecord, false},
	} {
		path := filepath.Join(t.TempDir(), "r"+record.Suffix)
		var raw bytes.Buffer
		zip, err := zstd.NewWriter(&raw)
		if err != nil {
			t.Fatal(err)
		}
		a := tar.NewWriter(zip)
		for _, m := range []tar.Header{{Name: record.HeaderFile, Size: int64(len(header))}, {Name: tt.name, Size: tt.size}} {
			m.Mode, m.Typeflag = 0o600, tar.TypeReg
			if err := a.WriteHeader(&m); err != nil {
				t.Fatal(err)
			}
			if m.Name == record.HeaderFile {
				if _, err := a.Write(header); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := errors.Join(zip.Close(), os.WriteFile(path, raw.Bytes(), 0o600)); err != nil {
			t.Fatal(err)
		}
		r, err := record.Open(path)
		if !errors.Is(err, tt.is) || err == nil && (r.Cut != nil) != tt.isCut {
			t.Errorf("%s of %d bytes: %v", tt.name, tt.size, err)
		}
	}
}

// The model is a part of the record that is read only if it is asked for.
func TestRecordedModel(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, model := filepath.Join(dir, "r"+record.Suffix), filepath.Join(dir, "model.onnx")
	if err := os.WriteFile(model, bytes.Repeat([]byte("onnx"), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	w := create(t, path)
	w.AddFile(record.ModelFile, model)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, "extracted")
	if err := record.ExtractModel(path, to); err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(to); err != nil || len(content) != 4<<20 {
		t.Errorf("%d bytes, %v", len(content), err)
	}
	if err := create(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	if err := record.ExtractModel(path, to+"2"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a record without one: %v", err)
	}
}

// What a run met beside its outcome is told: a clock that was set back, and who had its GPU, by name.
func TestNoticed(t *testing.T) {
	t.Parallel()
	r := made(t, func(w *record.Writer) {
		emit(w, "", pipeline.RunStarted{})
		w.Emit(pipeline.Event{Time: began.Add(-time.Hour), Step: "build-engine", Payload: pipeline.Warning{
			Text: "others compute where the engine is built: python3 (PID 500, 70 GiB) on GPU 0; the engine is used, but the times of its kernels are not kept: the next build times them anew",
		}})
		emit(w, "build-engine", pipeline.Line{Text: "Cuda failure: out of memory"})
		emit(w, "build-engine", pipeline.Ended{State: pipeline.Failed, Err: errors.New("x")})
		w.AddJSON(record.FailureFile, cause.Failure{Text: "build-engine: trtexec exited with status 1", Kind: pipeline.ContainerFailed, Step: "build-engine", ExitCode: 4})
	})
	s := record.Summarize(r)
	if len(s.Noticed) != 2 || s.Noticed[0].ID != "gpu-shared" || s.Noticed[1].ID != "clock-moved" || !strings.HasSuffix(s.Noticed[1].Text, "by 1h0m0s") {
		t.Errorf("%+v", s.Noticed)
	}
	if s.Cause == nil || s.Cause.ID != "gpu-busy" || !strings.HasSuffix(s.Cause.Text, ": python3 (PID 500, 70 GiB) on GPU 0") {
		t.Errorf("%+v", s.Cause)
	}
}

// BenchmarkRecord keeps a usual run that failed in verify: the lines that trtexec prints of a build, tritonserver's, and the tensors.
func BenchmarkRecord(b *testing.B) {
	log := strings.Split(tooltest.Output("trtexec-10.6-build-fp16.log")+tooltest.Output("tritonserver-gpu-ready.log"), "\n")
	values, random := make([]float32, 3*224*224), rand.New(rand.NewPCG(1, 2))
	for i := range values {
		values[i] = float32(random.NormFloat64())
	}
	tensor := record.EncodeFloats(values)
	var size int64
	for b.Loop() {
		path := filepath.Join(b.TempDir(), "r"+record.Suffix)
		w, err := record.Create(path, options())
		if err != nil {
			b.Fatal(err)
		}
		story(w)
		for _, line := range log {
			emit(w, "build-engine", pipeline.Line{Text: line})
		}
		for _, name := range []string{record.ServedTensor, record.ReferenceTensor} {
			w.AddBytes(name, tensor)
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
		about, err := os.Stat(path)
		if err != nil {
			b.Fatal(err)
		}
		size = about.Size()
	}
	b.ReportMetric(float64(size), "bytes/record")
	b.ReportMetric(float64(len(log)), "lines")
}
