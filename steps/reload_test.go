package steps_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/trtexec"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
	"github.com/dalirun/dalirun/triton/tritontest"
)

// reloading is a world with a server that serves a folder of its own, and knows candidates.
type reloading struct {
	*world

	folder   string
	began    int    // calls of the server's start
	replaced string // the model repository that was reported as served

	replacing []bool // what was told of a replacement
	// what the workspace's records refuse to take
	refuseNote, refuseRecord error

	switches []string // "served" or "candidates": from which models the ensemble was to answer, at each of its loads
}

// newReloading starts the server. faulty are the faults of the candidates.
func newReloading(t *testing.T, newWorld func(*testing.T) *world, faulty faults) *reloading {
	t.Helper()
	r := &reloading{world: newWorld(t), folder: filepath.Join(t.TempDir(), "served")}
	r.triton = sync.OnceValue(func() *tritontest.Server {
		models := served(r.target.Lane, faults{})
		for _, candidate := range served(r.target.Lane, faulty) {
			candidate.Name += "_candidate1"
			for i := range candidate.Requires {
				candidate.Requires[i] += "_candidate1"
			}
			models = append(models, candidate)
		}
		return tritontest.New(t, models...)
	})
	r.tools.Handover = handover(false)
	r.tools.Handover.Repository = func(ctx context.Context, stored string) (string, error) {
		return r.folder, owner.Mirror(ctx, stored, r.folder)
	}
	if err := r.run(t, t.Context(), steps.IDServe); err != nil {
		t.Fatal(err)
	}
	if r.fake.Copies != "" { // the copy has other models than the folder, which a reload brings
		for path := range filesIn(t, r.models(t)) {
			if err := os.WriteFile(filepath.Join(r.models(t), path), []byte("of before"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.began = len(r.triton().Calls())
	r.triton().Intercept(func(_ context.Context, rpc, model string) error {
		if rpc != "RepositoryModelLoad" {
			return nil
		}
		text, err := os.ReadFile(filepath.Join(r.models(t), model, "config.pbtxt"))
		if name := regexp.MustCompile(`(?m)^name: ?"(.+?)"`).FindSubmatch(text); err != nil || len(name) == 0 || string(name[1]) != model {
			t.Errorf("the configuration of %s is %s, %v", model, text, err)
		}
		if model == "ensemble_dali_resnet50"+"_candidate1" && strings.Count(string(text), "_candidate1") != 3 {
			t.Errorf("the parts of %s are %s", model, text)
		}
		if model == "ensemble_dali_resnet50" {
			switch n := strings.Count(string(text), "_candidate1"); {
			case err != nil, n != 0 && n != 2:
				t.Errorf("half of it is switched: %s, %v", text, err)
			case n == 2:
				r.switches = append(r.switches, "candidates")
			default:
				r.switches = append(r.switches, "served")
			}
		}
		return nil
	})
	return r
}

// models is where the server has its models: the folder, or a copy of it.
func (r *reloading) models(t *testing.T) string {
	t.Helper()
	path, err := r.fake.Inside(r.fake.Leaked()[0].ID, "/models")
	if err != nil {
		t.Error(err)
	}
	return path
}

// reload runs the steps of a reload that have not run, until one fails.
func (r *reloading) reload(t *testing.T, inPlace bool, image string) error {
	t.Helper()
	return r.reloadIn(t, t.Context(), inPlace, image)
}

func (r *reloading) reloadIn(t *testing.T, ctx context.Context, inPlace bool, image string) error { //nolint:revive // t comes first
	t.Helper()
	return r.reloadOf(t, ctx, r.fake.Leaked()[0].ID, inPlace, image)
}

// reloadOf is reload of the server in a container.
func (r *reloading) reloadOf(t *testing.T, ctx context.Context, id string, inPlace bool, image string) error { //nolint:revive // t comes first
	t.Helper()
	list, err := steps.ForReload(r.target, r.tools, steps.Replacement{
		Server: steps.ReloadedServer{Container: id, Image: image, FinishHint: "finish it"}, Folder: r.folder,
		Replacing: func(on bool) error { r.replacing = append(r.replacing, on); return r.refuseNote },
		Replaced:  func(repository string) error { r.replaced = repository; return r.refuseRecord },
	}, inPlace)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		in := pipeline.Inputs{}
		for _, o := range s.Inputs() {
			in[o] = r.values[o]
		}
		if outputs := s.Outputs(); slices.ContainsFunc(outputs, func(o pipeline.Output) bool { _, made := r.values[o]; return !made }) {
			if err := r.runStep(t, ctx, s, in); err != nil {
				return err
			}
		}
	}
	return nil
}

// undoReload undoes what the steps of a reload deferred, and not the server.
func (r *reloading) undoReload(t *testing.T) {
	t.Helper()
	for _, undo := range slices.Backward(r.undos[1:]) {
		if err := undo(t.Context()); err != nil {
			t.Error(err)
		}
	}
	r.undos = r.undos[:1]
}

// image identifies the image that the server runs.
func (r *reloading) image() string {
	return r.values[pipeline.Output{Step: steps.IDServerImage, Name: "image"}].Digest
}

// folders are those of the served repository. A server with a copy of it has the same ones.
func (r *reloading) folders(t *testing.T) []string {
	t.Helper()
	names := foldersIn(t, r.folder)
	if diff := cmp.Diff(names, foldersIn(t, r.models(t))); diff != "" {
		t.Errorf("folders (-host +server):\n%s", diff)
	}
	return names
}

func foldersIn(t *testing.T, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

// checkCopied fails the test if the server does not have what is in the served repository.
func (r *reloading) checkCopied(t *testing.T) {
	t.Helper()
	inside := filesIn(t, r.models(t))
	for path, content := range filesIn(t, r.folder) {
		if inside[path] != content {
			t.Errorf("the server has another %s", path)
		}
	}
}

// filesIn returns the contents of the files in a folder.
func filesIn(t *testing.T, folder string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(os.DirFS(folder), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(filepath.Join(folder, path))
		files[path] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// copying is a world whose container engine has no folder of this host.
func copying(newWorld func(*testing.T) *world) func(*testing.T) *world {
	return func(t *testing.T) *world {
		t.Helper()
		w := newWorld(t)
		w.fake.Copies = t.TempDir()
		return w
	}
}

// loads are the calls that load and unload models.
func (r *reloading) loads() []string {
	var calls []string
	for _, c := range r.triton().Calls()[r.began:] {
		if name, ok := strings.CutPrefix(c, "RepositoryModel"); ok {
			calls = append(calls, name)
		}
	}
	return calls
}

// Candidates are proven beside what is served, and every answer of the ensemble is wholly of the old models or of the
// new ones.
func TestReload(t *testing.T) {
	t.Parallel()
	worlds := cases()
	for name, newWorld := range cases() {
		worlds[name+", copied"] = copying(newWorld)
	}
	for name, newWorld := range worlds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReloading(t, newWorld, faults{})
			classifier := "resnet50_onnx"
			if r.target.Lane == target.GPU {
				classifier = "resnet50_trt"
			}
			before := r.folders(t)
			if err := r.reload(t, false, r.image()); err != nil {
				t.Fatal(err)
			}
			r.undoReload(t)
			want := []string{
				"Load dali_candidate1", "Load " + classifier + "_candidate1", "Load ensemble_dali_resnet50_candidate1",
				"Load ensemble_dali_resnet50", "Load dali", "Load " + classifier, "Load ensemble_dali_resnet50",
				"Unload ensemble_dali_resnet50_candidate1", "Unload " + classifier + "_candidate1", "Unload dali_candidate1",
			}
			if diff := cmp.Diff(want, r.loads()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			r.checkCopied(t)
			if diff := cmp.Diff([]string{"candidates", "served"}, r.switches); diff != "" {
				t.Errorf("the ensemble answers from (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, r.folders(t)); diff != "" {
				t.Errorf("folders (-before +after):\n%s", diff)
			}
			if r.replaced == "" || r.replaced == r.folder || !slices.Equal(r.replacing, []bool{true}) {
				t.Errorf("served is %q", r.replaced)
			}
		})
	}
}

// A replacement that has begun is finished, whatever becomes of the run.
func TestReloadIsNotCutOff(t *testing.T) {
	t.Parallel()
	r := newReloading(t, cpuLocal, faults{})
	ctx, cancel := context.WithCancel(t.Context())
	r.triton().Intercept(func(_ context.Context, rpc, model string) error {
		if rpc == "RepositoryModelLoad" && model == "ensemble_dali_resnet50" {
			cancel()
		}
		return nil
	})
	if err := r.reloadIn(t, ctx, false, r.image()); err != nil || ctx.Err() == nil || r.replaced == "" {
		t.Errorf("%v, and %q is served", err, r.replaced)
	}
	r.undoReload(t)
}

// A reload that fails leaves what is served, and nothing beside it.
func TestReloadFails(t *testing.T) {
	t.Parallel()
	errLoad := errors.New("no memory")
	for name, c := range map[string]struct {
		faulty faults
		image  string
		kind   pipeline.Kind
		want   string
	}{
		"a candidate does not load": {
			faults{load: map[string]func(context.Context) error{"resnet50_onnx": func(context.Context) error { return errLoad }}},
			"", pipeline.NotReady, "no memory",
		},
		"the candidates are not PyTorch": {
			faults{tensor: off}, "", pipeline.NotVerified, "preprocessing",
		},
		"another image": {faults{}, "sha256:other", pipeline.Environment, ", and the server runs sha256:other"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReloading(t, copying(cpuLocal), c.faulty)
			before := r.folders(t)
			image := c.image
			if image == "" {
				image = r.image()
			}
			f := fault(t, r.reload(t, false, image), c.kind)
			if !strings.Contains(f.Error(), c.want) || len(r.replacing) > 0 {
				t.Errorf("got %v", f)
			}
			r.undoReload(t)
			if diff := cmp.Diff(before, r.folders(t)); diff != "" || r.replaced != "" {
				t.Errorf("served is %q, folders (-before +after):\n%s", r.replaced, diff)
			}
			if slices.ContainsFunc(r.loads(), func(call string) bool {
				return strings.HasPrefix(call, "Load ") && !strings.HasSuffix(call, "_candidate1")
			}) {
				t.Errorf("what is served was touched: %q", r.loads())
			}
		})
	}
}

// off is preprocessing with another mean.
func off(tensor []float32) []float32 {
	shifted := slices.Clone(tensor)
	for i := range shifted {
		shifted[i] += 0.3
	}
	return shifted
}

// A switch that fails leaves the ensemble with the models of before, whose configuration is loaded again.
func TestReloadRestores(t *testing.T) {
	t.Parallel()
	r := newReloading(t, cpuLocal, faults{})
	path := filepath.Join(r.folder, "ensemble_dali_resnet50", "config.pbtxt")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cached := r.values[pipeline.Output{Step: steps.IDAssembleRepository, Name: "model_repository"}].Path
	// What a killed process can leave: the next one must not write through it to the cache.
	if err := os.Link(filepath.Join(cached, "ensemble_dali_resnet50", "config.pbtxt"), path+".new"); err != nil {
		t.Fatal(err)
	}
	errLoad := errors.New("no stream")
	var switched atomic.Bool
	r.triton().Intercept(func(_ context.Context, rpc, model string) error {
		if rpc == "RepositoryModelLoad" && model == "ensemble_dali_resnet50" && switched.CompareAndSwap(false, true) {
			text, err := os.ReadFile(path)
			if err != nil || strings.Count(string(text), "_candidate1") != 2 {
				t.Errorf("it is switched to %s, %v", text, err)
			}
			return errLoad
		}
		return nil
	})
	f := fault(t, r.reload(t, false, r.image()), pipeline.NotReady)
	if !strings.Contains(f.Error(), "no stream") || r.replaced != "" || !slices.Equal(r.replacing, []bool{true, false}) {
		t.Errorf("got %v, and %q is served", f, r.replaced)
	}
	r.undoReload(t)
	for _, file := range []string{path, filepath.Join(cached, "ensemble_dali_resnet50", "config.pbtxt")} {
		if after, err := os.ReadFile(file); err != nil || string(after) != string(before) {
			t.Errorf("%s is %s, %v", file, after, err)
		}
	}
	want := []string{
		"Load ensemble_dali_resnet50", "Load ensemble_dali_resnet50",
		"Unload ensemble_dali_resnet50_candidate1", "Unload resnet50_onnx_candidate1", "Unload dali_candidate1",
	}
	if diff := cmp.Diff(want, r.loads()[3:]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// In place there is no second set of models.
func TestReloadInPlace(t *testing.T) {
	t.Parallel()
	r := newReloading(t, copying(cpuLocal), faults{})
	if err := r.reload(t, true, r.image()); err != nil {
		t.Fatal(err)
	}
	r.checkCopied(t)
	if diff := cmp.Diff([]string{"Load dali", "Load resnet50_onnx", "Load ensemble_dali_resnet50"}, r.loads()); diff != "" || r.replaced == "" {
		t.Errorf("served is %q (-want +got):\n%s", r.replaced, diff)
	}
}

// What a killed reload left is removed by the next one; what the ensemble answers from stays until that has replaced
// it.
func TestReloadAfterAKilledOne(t *testing.T) {
	t.Parallel()
	errLoad := errors.New("no memory")
	fails := faults{load: map[string]func(context.Context) error{"resnet50_onnx": func(context.Context) error { return errLoad }}}
	r := newReloading(t, cpuLocal, fails)
	for _, left := range []string{"dali_candidate7", "resnet50_onnx_candidate7", "dali_candidate9", "mine_candidate7", "dali_candidates"} {
		if err := os.Mkdir(filepath.Join(r.folder, left), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(r.folder, "ensemble_dali_resnet50", "config.pbtxt")
	served, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	killed := regexp.MustCompile(`model_name: "(\w+)"`).ReplaceAllString(string(served), `model_name: "${1}_candidate7"`)
	if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte(killed), 0o600)); err != nil {
		t.Fatal(err)
	}
	wantFault(t, r.reload(t, false, r.image()), pipeline.NotReady)
	r.undoReload(t)
	want := []string{"dali", "dali_candidate7", "dali_candidates", "ensemble_dali_resnet50", "mine_candidate7", "resnet50_onnx", "resnet50_onnx_candidate7"}
	if diff := cmp.Diff(want, r.folders(t)); diff != "" {
		t.Errorf("after a reload that failed (-want +got):\n%s", diff)
	}

	other := newReloading(t, cpuLocal, faults{})
	for _, left := range []string{"dali_candidate7", "resnet50_onnx_candidate7", "mine_candidate7"} {
		if err := os.Mkdir(filepath.Join(other.folder, left), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := other.reload(t, false, other.image()); err != nil {
		t.Fatal(err)
	}
	other.undoReload(t)
	if diff := cmp.Diff([]string{"dali", "ensemble_dali_resnet50", "mine_candidate7", "resnet50_onnx"}, other.folders(t)); diff != "" {
		t.Errorf("after one that did not (-want +got):\n%s", diff)
	}
}

// A candidate that the server's copy still has is found again by the next reload: it would be listed for good.
func TestRemoveCandidatesOfACopy(t *testing.T) {
	t.Parallel()
	r := newReloading(t, copying(cpuLocal), faults{})
	for _, folder := range []string{r.folder, r.models(t)} {
		if err := os.Mkdir(filepath.Join(folder, "dali_candidate1"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	replacement := steps.Replacement{Server: steps.ReloadedServer{Container: r.fake.Leaked()[0].ID}, Folder: r.folder}
	away := r.models(t) + ".away" // the engine takes no copy
	if err := os.Rename(r.models(t), away); err != nil {
		t.Fatal(err)
	}
	if err := steps.RemoveCandidates(t.Context(), r.target, r.tools, replacement); err == nil {
		t.Error("nothing is said of a candidate that stays")
	}
	if err := os.Rename(away, r.models(t)); err != nil {
		t.Fatal(err)
	}
	if err := steps.RemoveCandidates(t.Context(), r.target, r.tools, replacement); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"dali", "ensemble_dali_resnet50", "resnet50_onnx"}, r.folders(t)); diff != "" {
		t.Errorf("folders (-want +got):\n%s", diff)
	}
	if _, err := os.Lstat(filepath.Join(r.folder, "dali_candidate1")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in its place there is something: %v", err)
	}
}

// Candidates that cannot be removed are no fault of a reload: what is served is the new models.
func TestCandidatesThatStay(t *testing.T) {
	t.Parallel()
	r := newReloading(t, copying(cpuLocal), faults{})
	if err := r.reload(t, false, r.image()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(r.models(t), r.models(t)+".away"); err != nil { // the engine takes no copy any more
		t.Fatal(err)
	}
	before := len(r.payloads)
	r.undoReload(t)
	var warned []string
	for _, p := range r.payloads[before:] {
		if warning, ok := p.(pipeline.Warning); ok {
			warned = append(warned, warning.Text)
		}
	}
	if len(warned) != 1 || !strings.HasPrefix(warned[0], "the next reload removes the candidates, which stay meanwhile: ") {
		t.Errorf("warned of %q", warned)
	}
}

// Where there is nothing to replace, what a killed reload left goes all the same.
func TestRemoveCandidates(t *testing.T) {
	t.Parallel()
	r := newReloading(t, cpuLocal, faults{})
	if err := os.Mkdir(filepath.Join(r.folder, "dali_candidate1"), 0o700); err != nil {
		t.Fatal(err)
	}
	replacement := steps.Replacement{Server: steps.ReloadedServer{Container: r.fake.Leaked()[0].ID}, Folder: r.folder}
	for _, want := range [][]string{{"Unload dali_candidate1"}, {"Unload dali_candidate1"}} { // the second has nothing to do
		if err := steps.RemoveCandidates(t.Context(), r.target, r.tools, replacement); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, r.loads()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if diff := cmp.Diff([]string{"dali", "ensemble_dali_resnet50", "resnet50_onnx"}, r.folders(t)); diff != "" {
		t.Errorf("folders (-want +got):\n%s", diff)
	}
}

// Without memory for as much again, nothing is loaded; what is not known refuses nothing.
func TestReloadLooksForRoom(t *testing.T) {
	t.Parallel()
	const gib = 1 << 30
	memory := func(used, free int64) func(context.Context) (trtexec.GPUMemory, error) {
		return func(context.Context) (trtexec.GPUMemory, error) {
			return trtexec.GPUMemory{Free: free, Total: used + free}, nil
		}
	}
	errAsk := errors.New("nvidia-smi hangs")
	for name, c := range map[string]struct {
		gpu  func(context.Context) (trtexec.GPUMemory, error)
		host string // what the container prints of its memory
		want string
	}{
		"enough":               {memory(3*gib, 3*gib), "max\n\nanon 1073741824\nMemAvailable: 1048576 kB\n", ""},
		"a full GPU":           {memory(3*gib, 3*gib-1), "", "they may need 3 GiB of memory of the GPU, and 3 GiB are free"},
		"a full host":          {memory(0, 0), "max\n\nanon 1073741824\nMemAvailable: 1048575 kB\n", "they may need 1 GiB of memory of the container"},
		"nothing is known":     {nil, "", ""},
		"a GPU that is silent": {func(context.Context) (trtexec.GPUMemory, error) { return trtexec.GPUMemory{}, errAsk }, "", errAsk.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReloading(t, func(t *testing.T) *world {
				t.Helper()
				w := cpuNGC(t)
				image := w.image("server", w.target.Release.TensorRT)
				image.Commands["sh"] = func(_ context.Context, _ container.Spec, out container.Streams) int {
					fmt.Fprint(out.Stdout, c.host)
					return 0
				}
				w.fake.AddRemote(w.target.Release.ServerRef(""), image)
				return w
			}, faults{})
			r.tools.GPUMemory = c.gpu
			err := r.reload(t, false, r.image())
			r.undoReload(t)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if loads := r.loads(); err != nil && len(loads) > 0 {
				t.Errorf("it was loaded: %q", loads)
			}
			if c.want != "" && c.want != errAsk.Error() {
				if f := fault(t, err, pipeline.Environment); !strings.Contains(f.Hint, "--in-place") {
					t.Errorf("hint %q", f.Hint)
				}
			}
		})
	}
}

// Where nobody noted which image a server runs, as an older dalirun did not, its models are proven like any others.
func TestReloadOfAnImageNotKnown(t *testing.T) {
	t.Parallel()
	r := newReloading(t, cpuLocal, faults{})
	if err := r.reload(t, false, ""); err != nil || r.replaced == "" {
		t.Errorf("%q is served: %v", r.replaced, err)
	}
	r.undoReload(t)
}

// What is in the way of a reload ends it, and what was served goes on: nothing of it was touched.
func TestReloadInTheWay(t *testing.T) {
	t.Parallel()
	gone := func(t *testing.T, r *reloading) {
		t.Helper()
		if err := r.fake.Remove(t.Context(), r.fake.Leaked()[0].ID); err != nil {
			t.Fatal(err)
		}
	}
	lacks := func(name string) func(*testing.T, *reloading) {
		return func(t *testing.T, r *reloading) {
			t.Helper()
			stored := r.values[pipeline.Output{Step: steps.IDAssembleRepository, Name: "model_repository"}].Path
			if stored == "" {
				t.Fatal("no model repository was made")
			}
			if err := os.RemoveAll(filepath.Join(stored, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		spoil   func(*testing.T, *reloading)
		inPlace bool
		want    string
	}{
		"no server":           {gone, false, "not found"},
		"no server, in place": {gone, true, "not found"},
		"no folder for the copy": {
			func(t *testing.T, r *reloading) {
				t.Helper()
				if err := os.RemoveAll(r.fake.Copies); err != nil {
					t.Fatal(err)
				}
			}, false, "no such file or directory",
		},
		"no configuration stored": {lacks("dali/config.pbtxt"), false, "config.pbtxt"},
		"no model stored":         {lacks("resnet50_onnx"), false, "resnet50_onnx"},
		"no model, in place":      {lacks("dali"), true, "dali"},
		"not noted":               {func(_ *testing.T, r *reloading) { r.refuseNote = errors.New("the disk is full") }, true, "the disk is full"},
		"not recorded":            {func(_ *testing.T, r *reloading) { r.refuseRecord = errors.New("the disk is full") }, true, "the disk is full"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReloading(t, copying(cpuLocal), faults{})
			id, image := r.fake.Leaked()[0].ID, r.image()
			c.spoil(t, r)
			err := r.reloadOf(t, t.Context(), id, c.inPlace, image)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if begun := slices.Contains(r.replacing, true) && r.refuseNote == nil; strings.Contains(pipeline.HintOf(err), "finish it") != begun {
				t.Errorf("replacing had begun: %t, and the hint is %q", begun, pipeline.HintOf(err))
			}
			if len(r.switches) > 0 && c.want != "the disk is full" {
				t.Errorf("the ensemble was loaded from %q", r.switches)
			}
			r.undoReload(t)
		})
	}
}

// A served repository that is no folder, or without the ensemble's configuration, is told of.
func TestReloadOfADamagedFolder(t *testing.T) {
	t.Parallel()
	r := newReloading(t, cpuLocal, faults{})
	replacement := steps.Replacement{Server: steps.ReloadedServer{Container: r.fake.Leaked()[0].ID}, Folder: r.folder}
	if err := os.Remove(filepath.Join(r.folder, "ensemble_dali_resnet50", "config.pbtxt")); err != nil {
		t.Fatal(err)
	}
	if err := steps.RemoveCandidates(t.Context(), r.target, r.tools, replacement); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a configuration: %v", err)
	}
	replacement.Folder = filepath.Join(r.folder, "dali", "config.pbtxt")
	if err := steps.RemoveCandidates(t.Context(), r.target, r.tools, replacement); err == nil {
		t.Error("a file is taken for a folder")
	}
	if _, err := steps.ForReload(r.target, r.tools, replacement, false); err == nil {
		t.Error("a file is taken for a folder by a reload")
	}
}
