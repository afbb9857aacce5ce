package trtexec_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/tooltest"
	"github.com/dalirun/dalirun/internal/trtexec"
)

// Each golden command and what it may hold is written out here from a table of trtexec's options; it is not made from the package's own data.
// Sources: S counted in NVIDIA/TensorRT's sampleOptions.cpp on each release branch; H in the help of a real trtexec 10.6 (internal/tooltest);
// M not in the list of what 11 removed, in NVIDIA's guide to it; I inferred: --exportLayerInfo came with --profilingVerbosity and
// --dumpLayerInfo, which are counted; the first release with --noTF32 is one of TensorRT 7, and that of --loadEngine older than all here.
//
//	option                      exists in    source
//	--explicitBatch             6.0 … 9.3    S
//	--buildOnly                 … 9.3        S
//	--skipInference             8.6 …        S H
//	--fp16                      … 10.16      S H
//	--noTF32                    7.1 …        I H M
//	--timingCacheFile           8.0 …        S H
//	--profilingVerbosity        8.2 …        S H
//	--exportLayerInfo           8.2 …        I H M
//	--getPlanVersionOnly        9.0 …        S H
//	--loadEngine                all          I H M; S from 9.0 on, with --getPlanVersionOnly
//	--onnx --saveEngine         all          S H
//	--minShapes --optShapes --maxShapes  all S H
func TestArgsGolden(t *testing.T) {
	t.Parallel()
	const (
		cache       = " --timingCacheFile=/cache/timing"
		layers      = " --profilingVerbosity=detailed --exportLayerInfo=/out/layers.json"
		readVersion = "--loadEngine=/out/model.plan --getPlanVersionOnly"
	)
	tests := []struct {
		tensorRT  string
		precision release.Precision
		cast      bool
		want      string
		version   string // the arguments that read the version back
	}{
		{"8.0.1.6", "fp16", false, "--explicitBatch --fp16 --buildOnly" + cache, ""},
		{"8.2.5.1", "fp16", false, "--fp16 --buildOnly" + cache + layers, ""},
		{"8.4.2.4", "fp16", false, "--fp16 --buildOnly" + cache + layers, ""},
		{"8.6.1", "fp16", false, "--fp16 --skipInference" + cache + layers, ""},
		{"9.3.0", "fp16", false, "--fp16 --skipInference" + cache + layers, readVersion},
		{"10.0", "fp16", false, "--fp16 --skipInference" + cache + layers, readVersion}, // the first without --explicitBatch and --buildOnly
		{"10.3", "fp16", false, "--fp16 --skipInference" + cache + layers, readVersion},
		{"10.9.0.34", "fp16", false, "--fp16 --skipInference" + cache + layers, readVersion},
		{"10.16.0.72", "fp16", false, "--fp16 --skipInference" + cache + layers, readVersion},
		{"10.16.0.72", "fp16", true, "--fp16 --skipInference" + cache + layers, readVersion},
		{"11.0", "fp16", true, "--skipInference" + cache + layers, readVersion}, // the first without --fp16
		{"11.1.0.106", "fp16", true, "--skipInference" + cache + layers, readVersion},
		{"12.0", "fp16", true, "--skipInference" + cache + layers, readVersion},
		{"8.0.1.6", "fp32", false, "--explicitBatch --noTF32 --buildOnly" + cache, ""},
		{"8.4.2.4", "fp32", false, "--noTF32 --buildOnly" + cache + layers, ""},
		{"8.6.1", "fp32", false, "--noTF32 --skipInference" + cache + layers, ""},
		{"9.3.0", "fp32", false, "--noTF32 --skipInference" + cache + layers, readVersion},
		{"10.0", "fp32", false, "--noTF32 --skipInference" + cache + layers, readVersion},
		{"10.3", "fp32", false, "--noTF32 --skipInference" + cache + layers, readVersion},
		{"10.9.0.34", "fp32", false, "--noTF32 --skipInference" + cache + layers, readVersion},
		{"10.16.0.72", "fp32", false, "--noTF32 --skipInference" + cache + layers, readVersion},
		{"11.0", "fp32", false, "--noTF32 --skipInference" + cache + layers, readVersion},
		{"11.1.0.106", "fp32", false, "--noTF32 --skipInference" + cache + layers, readVersion},
		{"12.0", "fp32", false, "--noTF32 --skipInference" + cache + layers, readVersion},
	}
	const head = "--onnx=model.onnx --saveEngine=/out/model.plan --minShapes=input:1x3x224x224 --optShapes=input:64x3x224x224 --maxShapes=input:256x3x224x224 "
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s %s cast %t", tt.tensorRT, tt.precision, tt.cast), func(t *testing.T) {
			t.Parallel()
			v := version(t, tt.tensorRT)
			b := build()
			b.Precision, b.Cast = tt.precision, tt.cast
			b.TimingCache, b.LayerInfo = "/cache/timing", "/out/layers.json"
			if v.Compare(release.Version{Major: 8, Minor: 2}) < 0 {
				b.LayerInfo = ""
			}
			got, err := trtexec.Args(v, b)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Fields(head+tt.want), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			versionArgs := trtexec.PlanVersionArgs(v, "/out/model.plan")
			if diff := cmp.Diff(strings.Fields(tt.version), versionArgs); diff != "" && len(versionArgs)+len(tt.version) > 0 {
				t.Errorf("reading the version back (-want +got):\n%s", diff)
			}
			checkOptionsExist(t, tt.tensorRT, append(got, versionArgs...))
			if old := v.Compare(version(t, "8.2")) < 0; trtexec.DescribesLayers(v) == old {
				t.Errorf("TensorRT %s describes layers: %t", v, !old)
			}
			if trtexec.NeedsCast(v) != (v.Major >= 11) {
				t.Errorf("TensorRT %s needs a cast: %t", v, trtexec.NeedsCast(v))
			}
		})
	}
}

// A dialect begins where trtexec changed, and nowhere else.
func TestDialectFrom(t *testing.T) {
	t.Parallel()
	for tensorRT, from := range map[string]string{
		"8.0.1.6": "8.0", "8.2.0": "8.2", "8.4.2.4": "8.2", "8.5.3": "8.2", "8.6.1": "8.6", "9.3.0": "9.0", "10.0": "9.0", "10.16.1": "9.0", "11.0": "11.0", "12.0": "11.0",
	} {
		if got, err := trtexec.DialectFrom(version(t, tensorRT)); err != nil || got != version(t, from) {
			t.Errorf("TensorRT %s is spoken to as %s, %v; want %s", tensorRT, got, err, from)
		}
	}
}

// checkOptionsExist holds a command against the table above, range by range.
func checkOptionsExist(t *testing.T, tensorRT string, args []string) {
	t.Helper()
	ranges := map[string][2]string{ // first and last TensorRT that has it
		"--explicitBatch": {"6.0", "9.3"}, "--buildOnly": {"6.0", "9.3"},
		"--noTF32": {"7.1", "99"}, "--skipInference": {"8.6", "99"}, "--fp16": {"6.0", "10.16"},
		"--timingCacheFile": {"8.0", "99"}, "--profilingVerbosity": {"8.2", "99"}, "--exportLayerInfo": {"8.2", "99"},
		"--getPlanVersionOnly": {"9.0", "99"}, "--loadEngine": {"6.0", "99"},
		"--onnx": {"6.0", "99"}, "--saveEngine": {"6.0", "99"},
		"--minShapes": {"6.0", "99"}, "--optShapes": {"6.0", "99"}, "--maxShapes": {"6.0", "99"},
	}
	v := version(t, tensorRT)
	v.Patch, v.Build = 0, 0
	for _, arg := range args {
		flag, _, _ := strings.Cut(arg, "=")
		r, ok := ranges[flag]
		if !ok {
			t.Errorf("%s is not in the table", flag)
			continue
		}
		if v.Compare(version(t, r[0])) < 0 || v.Compare(version(t, r[1])) > 0 {
			t.Errorf("TensorRT %s has no %s: it is in %s … %s", tensorRT, flag, r[0], r[1])
		}
	}
}

// The help of a real trtexec 10.6 has every option that the package gives it.
func TestArgsAgainstRealHelp(t *testing.T) {
	t.Parallel()
	b := build()
	b.TimingCache, b.LayerInfo = "c", "l"
	args, err := trtexec.Args(version(t, "10.6.0.26"), b)
	if err != nil {
		t.Fatal(err)
	}
	b.Precision = release.FP32
	exact, err := trtexec.Args(version(t, "10.6.0.26"), b)
	if err != nil {
		t.Fatal(err)
	}
	options := strings.Fields(tooltest.TrtexecHelp())
	for _, arg := range slices.Concat(args, exact, trtexec.PlanVersionArgs(version(t, "10.6.0.26"), "p")) {
		flag, _, value := strings.Cut(arg, "=")
		if !slices.ContainsFunc(options, func(o string) bool {
			name, _, hasValue := strings.Cut(strings.TrimSuffix(o, ","), "=")
			return name == flag && hasValue == value
		}) {
			t.Errorf("trtexec 10.6 has no %s", flag)
		}
	}
}

func TestArgsLeaveOutWhatIsNotAsked(t *testing.T) {
	t.Parallel()
	got, err := trtexec.Args(version(t, "10.9.0.34"), build())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"--onnx=model.onnx", "--saveEngine=/out/model.plan",
		"--minShapes=input:1x3x224x224", "--optShapes=input:64x3x224x224", "--maxShapes=input:256x3x224x224",
		"--fp16", "--skipInference",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What a user chose of a build can be read back from its command, whatever TensorRT it is for.
func TestBuildOf(t *testing.T) {
	t.Parallel()
	for _, tensorRT := range []string{"8.0.1", "8.6.1", "10.9.0.34", "11.1.0.106"} {
		for _, precision := range []release.Precision{release.FP16, release.FP32} {
			b := build()
			b.MinBatch, b.OptBatch, b.MaxBatch, b.Precision, b.Cast, b.LayerInfo = 2, 48, 96, precision, precision == release.FP16, ""
			argv, err := trtexec.Command(version(t, tensorRT), b)
			if err != nil {
				t.Fatal(err)
			}
			want := trtexec.Build{MinBatch: 2, OptBatch: 48, MaxBatch: 96, Precision: precision}
			if got, ok := trtexec.BuildOf(argv); !ok || got != want {
				t.Errorf("TensorRT %s, %s: %+v, %t", tensorRT, precision, got, ok)
			}
		}
	}
	for _, other := range [][]string{
		nil, {"python3", "x", "--max-batch", "8"}, {"--minShapes=input:1x3", "--optShapes=input:", "--maxShapes=8"}, trtexec.PlanVersionArgs(version(t, "10.9.0.34"), "p"),
	} {
		if got, ok := trtexec.BuildOf(other); ok || got != (trtexec.Build{}) {
			t.Errorf("%q: %+v", other, got)
		}
	}
}

func TestArgsRefuse(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		tensorRT string
		change   func(*trtexec.Build)
		want     string
	}{
		"fp16 on 11":             {"11.0", func(*trtexec.Build) {}, "TensorRT 11.0: trtexec of this TensorRT does not cast"},
		"fp16 on 11.1":           {"11.1.0.106", func(*trtexec.Build) {}, "TensorRT 11.1.0.106: trtexec of this TensorRT does not cast"},
		"layers on 8.0":          {"8.0.1.6", func(b *trtexec.Build) { b.LayerInfo = "l" }, "cannot describe layers"},
		"TensorRT 7":             {"7.2.3.4", func(*trtexec.Build) {}, "older than 8.0"},
		"TensorRT not known":     {"0.0", func(*trtexec.Build) {}, "TRT_VERSION"},
		"no model":               {"10.9", func(b *trtexec.Build) { b.ONNX = "" }, "needs a model"},
		"no plan":                {"10.9", func(b *trtexec.Build) { b.Plan = "" }, "needs a model"},
		"no input":               {"10.9", func(b *trtexec.Build) { b.Input = "" }, "needs a model"},
		"input with a colon":     {"10.9", func(b *trtexec.Build) { b.Input = "input:0" }, "character"},
		"min of zero":            {"10.9", func(b *trtexec.Build) { b.MinBatch = 0 }, "1 ≤ min ≤ opt ≤ max"},
		"opt under min":          {"10.9", func(b *trtexec.Build) { b.MinBatch, b.OptBatch = 8, 4 }, "1 ≤ min ≤ opt ≤ max"},
		"opt over max":           {"10.9", func(b *trtexec.Build) { b.OptBatch = 512 }, "1 ≤ min ≤ opt ≤ max"},
		"precision not known":    {"10.9", func(b *trtexec.Build) { b.Precision = "int8" }, "neither fp16 nor fp32"},
		"fp32 from a cast model": {"11.0", func(b *trtexec.Build) { b.Precision, b.Cast = "fp32", true }, "cast to fp16"},
		"precision left to luck": {"10.9", func(b *trtexec.Build) { b.Precision = "" }, "neither fp16 nor fp32"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := build()
			tt.change(&b)
			args, err := trtexec.Args(version(t, tt.tensorRT), b)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, %v; want an error with %q", args, err, tt.want)
			}
			if strings.HasPrefix(name, "fp16 on 11") && !errors.Is(err, trtexec.ErrNeedsCast) {
				t.Errorf("%v is not ErrNeedsCast", err)
			}
		})
	}
}

func build() trtexec.Build {
	return trtexec.Build{
		ONNX: "model.onnx", Plan: "/out/model.plan", Input: "input", Size: 224,
		MinBatch: 1, OptBatch: 64, MaxBatch: 256, Precision: release.FP16,
	}
}

func version(t *testing.T, s string) release.Version {
	t.Helper()
	v, err := release.ParseVersion(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
