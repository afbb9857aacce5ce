package steps_test

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/trtexec"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// fieldWorlds are those whose steps' fields are changed: each lane, image source and kind of weights, with and without
// a cast, and an image and a GPU of which little is known.
func fieldWorlds() map[string]func(*testing.T) *world {
	worlds := map[string]func(*testing.T) *world{}
	for name, newWorld := range cases() {
		for _, source := range []target.WeightsSource{
			{Kind: target.Random, Seed: 7},
			{Kind: target.Pretrained, Remote: target.Remote{
				URL: "https://weights.example/w.pth", SHA256: strings.TrimPrefix(sum("w"), "sha256:"), Bytes: 1,
			}},
			{Kind: target.File},
		} {
			worlds[name+"/"+string(source.Kind)] = func(t *testing.T) *world {
				t.Helper()
				w := newWorld(t)
				w.target.Weights, w.tools.Fetcher = source, gives("w")
				if source.Kind == target.File {
					w.target.Weights.Path = otherFile(t)
				}
				return w
			}
		}
	}
	worlds["gpu-ngc/little is known"] = func(t *testing.T) *world {
		t.Helper()
		w := gpuNGC(t)
		w.target.Device = target.Device{Location: "GPU 0 of another host"}
		w.fake.AddRemote(w.target.Release.ServerRef(""), w.image("server", ""))
		return w
	}
	return worlds
}

// TestFields changes each field of each step. What is tagged `fact:"-"` may not change what a stored result is found
// by; every other field must, in one world at least: some count only where nothing else says more.
func TestFields(t *testing.T) {
	t.Parallel()
	counts := map[string]bool{} // by field, whether a change of it was seen to count
	for name, newWorld := range fieldWorlds() {
		w := newWorld(t)
		w.make(t, steps.IDServe) // the images are there, and known
		for _, newStep := range w.all(t) {
			s := newStep(w.tools)
			for _, f := range fields(reflect.TypeOf(s).Elem(), false) {
				id := fmt.Sprintf("%T.%s", s, f.name)
				changed := w.changed(t, newStep, f)
				if f.work && changed != "" {
					t.Errorf("%s: %s is tagged as no fact, and another value of it makes other facts:\n%s", name, id, changed)
				}
				counts[id] = counts[id] || f.work || changed != ""
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(counts)) {
		if !counts[id] {
			t.Errorf("no fact and no input changes with %s: make it one, or tag it `fact:\"-\"`", id)
		}
	}
}

// all returns what makes each step of a run, and each that a reload alone has.
func (w *world) all(t *testing.T) []func(steps.Tools) pipeline.Step {
	t.Helper()
	folder := t.TempDir()
	run := func(tools steps.Tools) []pipeline.Step { return steps.For(w.target, tools, steps.IDVerify) }
	reload := func(tools steps.Tools) []pipeline.Step {
		list, err := steps.ForReload(w.target, tools, steps.Replacement{
			Folder: folder, Replacing: func(bool) error { return nil }, Replaced: func(string) error { return nil },
		}, false)
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(list, func(s pipeline.Step) bool {
			return s.ID() != steps.IDLoadCandidate && s.ID() != steps.IDReplace
		})
	}
	var all []func(steps.Tools) pipeline.Step
	for _, list := range []func(steps.Tools) []pipeline.Step{run, reload} {
		for i := range list(w.tools) {
			all = append(all, func(tools steps.Tools) pipeline.Step { return list(tools)[i] })
		}
	}
	return all
}

// field is one of a step's, or of a struct that it holds.
type field struct {
	name  string
	index []int
	work  bool // it only does the work
}

// fields returns the fields of a step type that hold no others. The tag of a struct holds for all of its fields.
func fields(typ reflect.Type, work bool) []field {
	var all []field
	for i := range typ.NumField() {
		f := typ.Field(i)
		work := work || f.Tag.Get("fact") == "-"
		if f.Type.Kind() != reflect.Struct || f.Type == reflect.TypeFor[netip.Addr]() {
			all = append(all, field{f.Name, []int{i}, work})
			continue
		}
		for _, inner := range fields(f.Type, work) {
			all = append(all, field{f.Name + "." + inner.name, append([]int{i}, inner.index...), inner.work})
		}
	}
	return all
}

// changed returns the difference that another value of one field makes to the identity of a step; empty if it makes none.
func (w *world) changed(t *testing.T, newStep func(steps.Tools) pipeline.Step, f field) string {
	t.Helper()
	before, after := newStep(w.tools), newStep(w.tools)
	value := settable(reflect.ValueOf(after).Elem().FieldByIndex(f.index))
	switch value.Kind() {
	case reflect.Interface, reflect.Func, reflect.Pointer:
		tool := settable(reflect.ValueOf(newStep(w.otherTools())).Elem().FieldByIndex(f.index))
		if tool.IsNil() {
			t.Fatalf("%T.%s: there is none among the other tools", after, f.name)
		}
		value.Set(tool)
	default:
		value.Set(otherValue(t, value))
	}
	return cmp.Diff(w.identity(t, before), w.identity(t, after))
}

// identity returns what a runner finds a step's stored result by. A step that runs each time has no facts in it.
func (w *world) identity(t *testing.T, s pipeline.Step) any {
	t.Helper()
	var identity struct {
		Inputs, Outputs []pipeline.Output
		Facts           pipeline.Facts
		State           pipeline.State
		Values          pipeline.Values
		Err             string
	}
	identity.Inputs, identity.Outputs = s.Inputs(), s.Outputs()
	var err error
	switch s := s.(type) {
	case pipeline.Builder:
		identity.Facts, err = s.Facts(t.Context(), w.make(t, s.ID()))
	case pipeline.Observer:
		identity.State, identity.Values, err = s.Observe(t.Context(), nil)
	}
	if err != nil {
		identity.Err = err.Error()
	}
	return identity
}

// settable is a field that other packages may not set, and this test may.
func settable(v reflect.Value) reflect.Value {
	return reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem()
}

// otherValue is another value of the kinds that fields have.
func otherValue(t *testing.T, v reflect.Value) reflect.Value {
	t.Helper()
	other := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.Bool:
		other.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		other.SetInt(v.Int() + 1)
		if v.Type() == reflect.TypeFor[time.Duration]() {
			other.SetInt(v.Int() + int64(time.Microsecond)) // Triton counts in these
		}
	case reflect.Float64:
		other.SetFloat(v.Float() / 2)
	case reflect.Uint8, reflect.Uint16:
		other.SetUint(v.Uint() + 1)
	case reflect.String:
		other.SetString(otherString(t, v.String()))
	case reflect.Slice:
		other.Set(reflect.Append(v, otherValue(t, reflect.Zero(v.Type().Elem()))))
	case reflect.Map:
		other.Set(reflect.MakeMap(v.Type()))
		for _, key := range v.MapKeys() {
			other.SetMapIndex(key, v.MapIndex(key))
		}
		other.SetMapIndex(otherValue(t, reflect.Zero(v.Type().Key())), otherValue(t, reflect.Zero(v.Type().Elem())))
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[netip.Addr]() {
			other.Set(reflect.ValueOf(netip.AddrFrom4([4]byte{192, 0, 2, 1})))
			break
		}
		for i := range v.NumField() {
			other.Field(i).Set(otherValue(t, v.Field(i)))
		}
	default:
		t.Fatalf("no other value of a %s is known", v.Type())
	}
	return other
}

// otherString is another lane, image source, precision, file, version or name.
func otherString(t *testing.T, s string) string {
	t.Helper()
	words := map[string]string{"gpu": "cpu", "cpu": "gpu", "ngc": "local", "local": "ngc", "fp16": "fp32", "fp32": "fp16"}
	if other, ok := words[s]; ok {
		return other
	}
	if _, err := os.Stat(s); err == nil { // a path counts by what is there
		return otherFile(t)
	}
	return s + "1"
}

// otherFile is a new file, whose content no other has.
func otherFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "other.pth")
	if err := os.WriteFile(file, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// otherTools returns tools of other types than w's, with the same images and the same KV.
func (w *world) otherTools() steps.Tools {
	return steps.Tools{
		Runner:      struct{ container.Runner }{w.fake},
		Images:      struct{ container.Images }{w.fake},
		Builder:     struct{ container.Builder }{w.fake},
		KV:          struct{ steps.KV }{w.kv},
		Fetcher:     gives("other content"),
		TimingCache: struct{ steps.TimingCache }{},
		Memory:      1,
		GPUMemory:   func(context.Context) (trtexec.GPUMemory, error) { return trtexec.GPUMemory{}, nil },
		GPUTurn:     &steps.GPUTurn{},
		Neighbours:  func(context.Context) ([]host.Process, error) { return nil, nil },
		Handover:    handover(true),
		Gone:        func(context.Context, string) ([]string, error) { return nil, nil },
	}
}
