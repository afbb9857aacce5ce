package trtexec_test

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/tooltest"
	"github.com/dalirun/dalirun/internal/trtexec"
)

// What is reported of kernels that are timed anew, and of those that are not.
const (
	stageCold = "timing kernels, which takes a minute or more"
	stageWarm = "timing kernels that no earlier build timed"
	stageLoad = "reading how long kernels took an earlier build"
)

// readLog returns the stages that are reported of a log, and its facts.
func readLog(text string) (stages []string, facts trtexec.LogFacts) {
	log := trtexec.NewLog(func(stage string) { stages = append(stages, stage) })
	for line := range strings.Lines(text) {
		log.Read(strings.TrimRight(line, "\r\n"))
	}
	return stages, log.Facts()
}

// TestRecordedLogs reads what trtexec 10.6 printed on an H100.
func TestRecordedLogs(t *testing.T) {
	t.Parallel()
	facts := func(planMiB float64, version string) trtexec.LogFacts {
		picture := func(batch int64) []int64 { return []int64{batch, 3, 224, 224} }
		return trtexec.LogFacts{
			PlanVersion: version, Profile: &trtexec.Profile{Input: "input", Min: picture(1), Opt: picture(64), Max: picture(256)},
			InputFormat: "fp32:CHW", OutputFormat: "fp32:CHW", PlanMiB: planMiB, PlanMiBError: 0.0001,
			GPU: trtexec.SelectedGPU{Name: "NVIDIA H100 80GB HBM3", UUID: "GPU-b2b10123-43d8-7094-32ab-39106cb54c35"},
		}
	}
	tests := map[string]struct {
		recordings []string
		stages     []string
		facts      trtexec.LogFacts
	}{
		"fp16": {
			[]string{"trtexec-10.6-build-fp16.log", "trtexec-10.6-getPlanVersionOnly.log"},
			[]string{"loading TensorRT", "parsing the model", stageCold, "building the engine", "engine built in 68.7353 s", "saving and checking the engine"},
			facts(50.2603, "10.6.0.26"),
		},
		"fp16 with a timing cache, not saved": {
			[]string{"trtexec-10.6-build-fp16-timing-cache.log"},
			[]string{"loading TensorRT", "parsing the model", stageLoad, stageWarm, "building the engine", "engine built in 2.6647 s"},
			facts(50.2603, ""),
		},
		"fp32 with a timing cache": {
			[]string{"trtexec-10.6-build-fp32.log", "trtexec-10.6-getPlanVersionOnly.log"},
			[]string{"loading TensorRT", "parsing the model", stageLoad, stageWarm, "building the engine", "engine built in 0.958058 s", "saving and checking the engine"},
			facts(98.7913, "10.6.0.26"),
		},
		"out of memory, before it takes a GPU": {
			[]string{"trtexec-10.6-oom-build.log"},
			[]string{"loading TensorRT"},
			trtexec.LogFacts{Profile: facts(0, "").Profile, InputFormat: "fp32:CHW", OutputFormat: "fp32:CHW"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var text strings.Builder
			for _, recording := range tt.recordings {
				text.WriteString(tooltest.Output(recording))
			}
			stages, facts := readLog(text.String())
			if diff := cmp.Diff(tt.stages, stages); diff != "" {
				t.Errorf("stages (-want +got):\n%s", diff)
			}
			facts.PlanMiBError = math.Round(facts.PlanMiBError*1e6) / 1e6
			if diff := cmp.Diff(tt.facts, facts); diff != "" {
				t.Errorf("facts (-want +got):\n%s", diff)
			}
		})
	}
}

// TestStagesOfTimingCache checks that times of an earlier build are reported only where TensorRT read some and takes them.
func TestStagesOfTimingCache(t *testing.T) {
	t.Parallel()
	const (
		global = "[I] [TRT] Global timing cache in use. Profiling results in this builder pass will be stored."
		loaded = "[I] [TRT] Loaded 890550 bytes of timing cache from /out/timing.cache"
	)
	for name, tt := range map[string]struct{ lines, want []string }{
		"a TensorRT that prints nothing of a file": {[]string{global}, []string{stageCold}},
		"no file":                        {[]string{"[W] [TRT] Could not read timing cache from: /out/timing.cache. A new timing cache will be generated and written.", global}, []string{stageCold}},
		"an empty file":                  {[]string{"[I] [TRT] Loaded 0 bytes of timing cache from /out/timing.cache", global}, []string{stageCold}},
		"a file that is not taken":       {[]string{loaded, "[E] [TRT] 4: The timing cache will not be used!", global}, []string{stageLoad, stageCold}}, // NVIDIA/TensorRT#3566
		"not taken, by its header":       {[]string{loaded, "[E] [TRT] 4: Timing cache header mismatch:Incoming ITimingCache: UUID = GPU-e95b6d5c-6b23-2af9-45f9-3df237cfd30f, commit = 9a73423585f0fcfc", global}, []string{stageLoad, stageCold}},
		"not taken, by TensorRT 8.0":     {[]string{loaded, "[W] [TRT] Detected invalid timing cache, setup a local cache instead"}, []string{stageLoad, stageCold}}, // NVIDIA/TensorRT#1413
		"a local one":                    {[]string{loaded, "[I] [TRT] Local timing cache in use."}, []string{stageLoad, stageCold}},
		"times of this or another shape": {[]string{loaded, global}, []string{stageLoad, stageWarm}},
		"lines of an earlier stage":      {[]string{loaded, global, "[I] Start parsing network model.", loaded}, []string{stageLoad, stageWarm}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stages, _ := readLog(strings.Join(tt.lines, "\n"))
			if diff := cmp.Diff(tt.want, stages); diff != "" {
				t.Errorf("stages (-want +got):\n%s", diff)
			}
		})
	}
}

// TestLogFacts reads single lines, those of other TensorRTs among them.
func TestLogFacts(t *testing.T) {
	t.Parallel()
	profile := &trtexec.Profile{Input: "input", Min: []int64{1, 3}, Opt: []int64{8, 3}, Max: []int64{16, 3}}
	for name, tt := range map[string]struct {
		log  string
		want trtexec.LogFacts
	}{
		"profile":               {"[I] Set shape of input tensor input for optimization profile 0 to: MIN=1x3 OPT=8x3 MAX=16x3", trtexec.LogFacts{Profile: profile}},
		"profile up to 9":       {"[I] Set shape of input tensor input to: MIN=1x3 OPT=8x3 MAX=16x3", trtexec.LogFacts{Profile: profile}},
		"arguments":             {"[I] Input build shape (profile 0): input=1x3+8x3+16x3", trtexec.LogFacts{Profile: profile}},
		"arguments up to 9":     {"[I] Input build shapes: input=1x3+8x3+16x3", trtexec.LogFacts{Profile: profile}},
		"profile, then others":  {"Set shape of input tensor input to: MIN=1x3 OPT=8x3 MAX=16x3\nInput build shape: input=2x3+2x3+2x3", trtexec.LogFacts{Profile: profile}},
		"arguments, then other": {"Input build shape: input=2x3+2x3+2x3\nSet shape of input tensor input to: MIN=1x3 OPT=8x3 MAX=16x3", trtexec.LogFacts{Profile: profile}},
		"shapes of no numbers":  {"[I] Input build shape: input=model+model+model", trtexec.LogFacts{}},
		"formats":               {"[I] Input(s)s format: fp16:CHW\n[I] Output(s)s format: fp32:CHW", trtexec.LogFacts{InputFormat: "fp16:CHW", OutputFormat: "fp32:CHW"}},
		"whole MiB":             {"[I] Created engine with size: 50 MiB", trtexec.LogFacts{PlanMiB: 50, PlanMiBError: 1}},
		"parts of a MiB":        {"[I] Created engine with size: 50.5 MiB", trtexec.LogFacts{PlanMiB: 50.5, PlanMiBError: 0.1}},
		"read back, MiB":        {"[I] [TRT] Loaded engine size: 50 MiB", trtexec.LogFacts{PlanMiB: 50, PlanMiBError: 1}},
		"read back, MB":         {"[I] [TRT] Loaded engine size: 50 MB", trtexec.LogFacts{PlanMiB: 50, PlanMiBError: 3.5}},
		"created and read back": {"Created engine with size: 50.5 MiB\nLoaded engine size: 51 MiB", trtexec.LogFacts{PlanMiB: 50.5, PlanMiBError: 0.1}},
		"no entry":              {"[I] [TRT] Serialized 0 timing cache entries\n[I] more", trtexec.LogFacts{EmptyTimingCache: true}},
		"entries":               {"[I] [TRT] Serialized 1137 timing cache entries", trtexec.LogFacts{}},
		"version":               {"[I] Plan was created with TensorRT version 10.6.0.26", trtexec.LogFacts{PlanVersion: "10.6.0.26"}},
		"the first GPU":         {"[I] Selected Device: A\n[I] Selected Device UUID: 1\n[I] Selected Device: B\n[I] Selected Device UUID: 2", trtexec.LogFacts{GPU: trtexec.SelectedGPU{Name: "A", UUID: "1"}}},
		"others in the list":    {"[I] Available Devices: \n[I]   Device 0: \"NVIDIA L4\" UUID: GPU-b\n[I] Selected Device: A", trtexec.LogFacts{GPU: trtexec.SelectedGPU{Name: "A"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, got := readLog(tt.log); !cmp.Equal(tt.want, got) {
				t.Errorf("(-want +got):\n%s", cmp.Diff(tt.want, got))
			}
		})
	}
}
