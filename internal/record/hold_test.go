package record_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/cause"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/record"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// Of a folder of runs the oldest records go, and what killed runs left of one. Whatever else is there stays, and so does
// the record of a living run, however old.
func TestPrune(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "g[1]") // no pattern
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	run := func(n int) string { return fmt.Sprintf("2026112%dT020304Z-0123ab%s", n, record.Suffix) }
	living := create(t, filepath.Join(dir, run(0)))
	for n := range 4 {
		if err := create(t, filepath.Join(dir, run(n+1))).Close(); err != nil {
			t.Fatal(err)
		}
	}
	others := []string{"0-mine.tar.zst", "backup-20261121T020304Z-0123ab.tar.zst", run(1) + ".bak", run(1) + ".new"}
	for _, name := range append(others, run(3)+".123456.new") {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := record.Prune(dir, 2); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, f := range files {
		left = append(left, f.Name())
	}
	want := append([]string{run(0), run(3), run(4)}, others...)
	slices.Sort(want)
	if !slices.Equal(left, want) {
		t.Errorf("left are %q, want %q", left, want)
	}
	if err := errors.Join(living.Close(), record.Prune(dir, 0)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, run(0))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the record of the run that has ended stays: %v", err)
	}
	if err := record.Prune(filepath.Join(dir, "none"), 2); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

// What a killed run left of a record is removed when the record is made again.
func TestCreateSweeps(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "r"+record.Suffix)
	for _, name := range []string{path + ".77.new", path + ".new", path + ".77.new.mine"} {
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := create(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(path + "*"); err != nil || !slices.Equal(left, []string{path, path + ".77.new.mine", path + ".new"}) {
		t.Errorf("left are %q, %v", left, err)
	}
}

// A run that is at work is told to be, and blamed for nothing; once it was killed, it is told that.
func TestRunning(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "r"+record.Suffix)
	w := create(t, path)
	story(w)
	w.Snapshot()
	growing, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if s := record.Summarize(open(t, path)); s.Outcome != record.Running || s.Cause != nil || s.Cut != "" || s.ExitCode != nil {
		t.Errorf("%+v", s)
	}
	if err := errors.Join(w.Close(), os.WriteFile(path, growing, 0o600)); err != nil {
		t.Fatal(err)
	}
	if s := record.Summarize(open(t, path)); s.Outcome != record.Killed || s.ExitCode != nil {
		t.Errorf("%+v", s)
	}
}

// Two errors that nobody knows are the same if they say the same.
func TestComparedUnknown(t *testing.T) {
	t.Parallel()
	unknown := func(step pipeline.ID, text string) *record.Record {
		return made(t, func(w *record.Writer) {
			w.AddJSON(record.FailureFile, cause.Failure{Text: text, Step: step, ExitCode: 1})
		})
	}
	lost := unknown("serve", "flux capacitor lost")
	for again, want := range map[*record.Record]bool{
		unknown("serve", "flux capacitor lost"): true, unknown("serve", "the moon is in the way"): false,
	} {
		if got := (record.Reproduction{}).Compared(lost, again, nil); got.Reproduced != want {
			t.Errorf("%+v", got)
		}
	}
}

// A checkpoint that does not fit is the same as itself, whichever step met it and wherever it is stored, and is another
// one than one with NaN.
func TestComparedGeneral(t *testing.T) {
	t.Parallel()
	weights := func(step pipeline.ID, text string) *record.Record {
		return made(t, func(w *record.Writer) {
			w.AddJSON(record.FailureFile, cause.Failure{Text: string(step) + ": " + text, Kind: pipeline.ContainerFailed, Step: step, ExitCode: 4})
		})
	}
	was := weights("export-onnx", "export_onnx.py: /home/me/w.pth does not fit resnet50: missing fc.bias")
	for again, want := range map[*record.Record]bool{
		weights("reference", "reference.py: /c/entries/52b0a263cfba/000001/files/w.pth does not fit resnet50: missing fc.bias"): true,
		weights("export-onnx", "export_onnx.py: /home/me/w.pth has NaN or infinity in fc.weight"):                               false,
	} {
		if got := (record.Reproduction{}).Compared(was, again, nil); got.Reproduced != want {
			t.Errorf("%+v", got)
		}
	}
}

// What a record says is shown without what a terminal would obey.
func TestTextIsPrintable(t *testing.T) {
	t.Parallel()
	const escape = "\x1b[2J"
	path := filepath.Join(t.TempDir(), "r"+record.Suffix)
	o := options()
	o.Command, o.Program = "e2e"+escape, "1"+escape
	w, err := record.Create(path, o)
	if err != nil {
		t.Fatal(err)
	}
	w.SetRun("r" + escape)
	emit(w, "", pipeline.RunStarted{Steps: []pipeline.ID{"a" + escape}})
	emit(w, "", pipeline.Warning{Text: "others compute where the engine is built: x" + escape + "; the engine is used"})
	w.AddJSON(record.FailureFile, cause.Failure{Text: "x" + escape, Hint: escape, Step: "a" + escape, Repeat: escape})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := record.Summarize(open(t, path)).WriteText(&b); err != nil || strings.Contains(b.String(), "\x1b") || !strings.Contains(b.String(), "e2e") {
		t.Errorf("%v: %q", err, b.String())
	}
}

// Who draws, and who computes on another GPU, has no part in a GPU that ran out of memory.
func TestOthersOnGPU(t *testing.T) {
	t.Parallel()
	const smi = `<nvidia_smi_log><gpu id="00000000:06:00.0"><processes>%s</processes></gpu><gpu id="00000000:07:00.0"><processes>%s</processes></gpu></nvidia_smi_log>`
	process := func(kind string) string {
		return "<process_info><pid>77</pid><type>" + kind + "</type><used_memory>40 MiB</used_memory></process_info>"
	}
	for _, tt := range []struct{ here, there, want string }{
		{process("C"), "", "gpu-busy"},
		{process("C+G"), "", "gpu-busy"},
		{"", "", "gpu-out-of-memory"},
		{process("G"), process("C"), "gpu-out-of-memory"},
	} {
		r := made(t, func(w *record.Writer) {
			w.AddJSON(record.TargetFile, target.Target{Lane: target.GPU, Chosen: []host.GPU{{BusID: "00000000:06:00.0"}}})
			w.AddText(record.GPUBeforeFile, fmt.Appendf(nil, smi, tt.here, tt.there))
			emit(w, "build-engine", pipeline.Line{Text: "Can't allocate 1048576 bytes on device"})
			w.AddJSON(record.FailureFile, cause.Failure{Text: "x", Kind: pipeline.ContainerFailed, Step: "build-engine", Tail: []string{"Can't allocate 1048576 bytes on device"}})
		})
		if c, _ := r.Cause(); c.ID != tt.want {
			t.Errorf("%+v: %+v", tt, c)
		}
	}
}
