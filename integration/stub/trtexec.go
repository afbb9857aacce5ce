package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dalirun/dalirun/integration/stub/record"
	"github.com/dalirun/dalirun/internal/tooltest"
)

// option is one of trtexec's, and the TensorRT that have it: from … to, the latter without; 0 is no bound.
type option struct {
	name     string
	from, to version
}

// options are from the option strings of samples/common/sampleOptions.cpp on each release branch of NVIDIA/TensorRT.
// Those without bounds are in all of them from 8.0 on.
func options() []option {
	at := func(major, minor int) version { return version{major, minor} }
	list := []option{
		{name: "explicitBatch", to: at(10, 0)},
		{name: "workspace", to: at(10, 0)},
		{name: "buildOnly", to: at(10, 0)},
		{name: "maxBatch", to: at(9, 0)},
		{name: "batch", to: at(9, 0)},
		{name: "fp16", to: at(11, 0)},
		{name: "best", to: at(11, 0)},
		{name: "int8", to: at(11, 0)},
		{name: "bf16", from: at(9, 0), to: at(11, 0)},
		{name: "stronglyTyped", from: at(9, 0)},
		{name: "memPoolSize", from: at(8, 4)},
		{name: "skipInference", from: at(8, 6)},
		{name: "profilingVerbosity", from: at(8, 2)},
		{name: "dumpLayerInfo", from: at(8, 2)},
		{name: "exportLayerInfo", from: at(8, 2)},
		{name: "builderOptimizationLevel", from: at(8, 6)},
		{name: "versionCompatible", from: at(8, 6)},
		{name: "hardwareCompatibilityLevel", from: at(8, 6)},
		{name: "getPlanVersionOnly", from: at(9, 0)},
		{name: "stripWeights", from: at(10, 0)},
		{name: "runtimePlatform", from: at(10, 3)},
	}
	for _, name := range []string{
		"onnx", "saveEngine", "loadEngine", "minShapes", "optShapes", "maxShapes", "shapes", "timingCacheFile", "verbose",
		"device", "iterations", "duration", "warmUp", "noDataTransfers", "useCudaGraph", "useSpinWait", "exportTimes",
		"exportProfile", "dumpProfile", "percentile", "avgRuns", "noTF32", "sparsity", "inputIOFormats",
		"outputIOFormats", "help",
	} {
		list = append(list, option{name: name})
	}
	return list
}

// version is major and minor.
type version [2]int

func (v version) before(w version) bool { return slices.Compare(v[:], w[:]) < 0 }

func (o option) in(v version) bool {
	return !v.before(o.from) && (o.to == version{} || v.before(o.to))
}

// tensorRT is that of the image, and as trtexec's banner has it: v8001 for 8.0.1, v100900 for 10.9.0.
func (p *process) tensorRT() (v version, banner string) {
	var numbers [3]int
	for i, part := range strings.SplitN(p.env("TRT_VERSION"), ".", len(numbers)+1) {
		if i < len(numbers) {
			numbers[i], _ = strconv.Atoi(part)
		}
	}
	minor := "%d"
	if numbers[0] >= 10 {
		minor = "%02d"
	}
	return version{numbers[0], numbers[1]}, fmt.Sprintf("v%d"+minor+"%02d", numbers[0], numbers[1], numbers[2])
}

// trtexec builds an engine from an ONNX model, or says which TensorRT built one.
func (p *process) trtexec(ctx context.Context) int {
	v, _ := p.tensorRT()
	given := map[string]string{}
	for _, arg := range p.args[1:] {
		name, value, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		known := slices.ContainsFunc(options(), func(o option) bool { return o.name == name && o.in(v) })
		if !strings.HasPrefix(arg, "--") || !known {
			p.print(strings.ReplaceAll(tooltest.Output("trtexec-10.6-unknown--buildOnly.log"),
				"Unknown option: --buildOnly", "Unknown option: "+arg), nil)
			return 1
		}
		given[name] = value
	}
	if _, ok := given["getPlanVersionOnly"]; ok {
		return p.planVersion(given["loadEngine"])
	}
	if err := record.Write(p.stdout, p.args, p.environ); err != nil {
		fmt.Fprintln(p.stderr, "stub:", err)
		return 70
	}
	if err := p.takeTime(ctx); err != nil {
		fmt.Fprintln(p.stderr, "stub:", err)
		return 70
	}
	return p.build(v, given)
}

// takeTime lasts as long as the image says that a build does.
func (p *process) takeTime(ctx context.Context) error {
	text := p.env("STUB_BUILD_TIME")
	if text == "" {
		return nil
	}
	lasts, err := time.ParseDuration(text)
	if err != nil {
		return err
	}
	select {
	case <-time.After(lasts):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// planVersion succeeds on a plan that was cut, as the real one does.
func (p *process) planVersion(name string) int {
	data, err := os.ReadFile(name)
	var plan artifact
	if text, ok := strings.CutPrefix(string(data), magic); ok {
		err = json.Unmarshal([]byte(text), &plan)
	}
	if err != nil || plan.TensorRT == "" {
		fmt.Fprintf(p.stderr, "stub: %s is no plan (%v)\n", name, err)
		return 1
	}
	p.print(strings.ReplaceAll(tooltest.Output("trtexec-10.6-getPlanVersionOnly.log"),
		"with TensorRT version 10.6.0.26", "with TensorRT version "+plan.TensorRT), nil)
	return 0
}

// skippedTactic is what TensorRT 10 says where a kernel would need more memory than there is: it takes another one.
const skippedTactic = "[E] Error[2]: [virtualMemoryBuffer.cpp::resizePhysical::154] " +
	"Error Code 2: OutOfMemory (Requested size was 2147483648 bytes.)\n"

func (p *process) build(v version, given map[string]string) int {
	switch {
	case !p.hasGPU():
		p.print(tooltest.Output("trtexec-10.6-no-gpu.log"), given)
		return 1
	case p.fails("oom"):
		p.print(tooltest.Output("trtexec-10.6-oom-build.log"), given)
		return 1
	}
	onnx, err := readArtifact(given["onnx"], kindONNX)
	if err != nil {
		p.print(tooltest.Output("trtexec-10.6-missing-onnx.log"), given)
		return 1
	}
	if p.fails("unsaved") { // seen in the field: the sample's exit status does not always tell
		p.print(tooltest.Output("trtexec-10.6-unwritable-output.log"), given)
		return 0
	}
	_, skip := given["skipInference"]
	_, only := given["buildOnly"]
	if !skip && !only {
		// And a caller should not let it.
		fmt.Fprintln(p.stderr, "stub: the real one would measure the engine for some seconds now")
		return 70
	}
	plan := p.plan(v, onnx, given)
	if p.fails("disk-full") { // a kernel was passed over before: memory is not why
		fmt.Fprint(p.stdout, strings.Replace(tooltest.Output("trtexec-10.6-build-fp16.log"),
			"[I] Created engine", skippedTactic+"[11/22/2026-14:05:57] [I] Created engine", 1)+
			"[11/22/2026-14:05:57] [E] Saving engine to file failed.\nwrite /out/model.plan: No space left on device\n"+
			"&&&& FAILED TensorRT.trtexec\n")
		return 1
	}
	if err := plan.write(given["saveEngine"]); err != nil {
		p.print(tooltest.Output("trtexec-10.6-unwritable-output.log"), given)
		return 1
	}
	log, layers := tooltest.Output("trtexec-10.6-build-fp32.log"), []byte(tooltest.Output("trtexec-10.6-layers-fp32.json"))
	if plan.FP16 {
		log, layers = tooltest.Output("trtexec-10.6-build-fp16.log"), []byte(tooltest.Output("trtexec-10.6-layers-fp16.json"))
	}
	log, err = timings(given["timingCacheFile"], plan.TensorRT, log)
	if errors.Is(err, errForeign) {
		fmt.Fprint(p.stdout,
			"[11/22/2026-14:05:31] [E] [TRT] Error Code 1: Serialization (Serialization assertion "+
				"stdVersionRead == kSERIALIZATION_VERSION failed.Version tag does not match)\n"+
				"[11/22/2026-14:05:31] [E] TimingCache creation failed\n"+
				"[11/22/2026-14:05:31] [E] Engine could not be created from network\n")
		return 1
	}
	if name := given["exportLayerInfo"]; name != "" && err == nil {
		if given["profilingVerbosity"] != "detailed" {
			layers = []byte(`{"Layers": ["conv1", "fc"], "Bindings": ["input", "output"]}`)
		}
		err = os.WriteFile(name, layers, 0o600)
	}
	info, statErr := os.Stat(given["saveEngine"])
	if err == nil && statErr == nil && p.fails("cut-plan") {
		err = os.Truncate(given["saveEngine"], info.Size()/2)
	}
	if err := errors.Join(err, statErr); err != nil {
		fmt.Fprintln(p.stderr, "stub:", err)
		return 70
	}
	size := fmt.Sprintf("Created engine with size: %.6g MiB", float64(info.Size())/(1<<20))
	p.print(regexp.MustCompile(`Created engine with size: [\d.]+ MiB`).ReplaceAllLiteralString(log, size), given)
	return 0
}

// plan is the engine. TensorRT 11 builds what the model says; earlier ones are asked for fp16.
func (p *process) plan(v version, onnx artifact, given map[string]string) artifact {
	_, isFP16 := given["fp16"]
	plan := artifact{
		Kind: kindPlan, Weights: onnx.Weights, TensorRT: p.env("TRT_VERSION"), FP16: isFP16,
		Shapes: strings.Join([]string{given["minShapes"], given["optShapes"], given["maxShapes"]}, " "),
	}
	if !v.before(version{11, 0}) {
		plan.FP16 = onnx.FP16
	}
	switch {
	case p.fails("other-weights"):
		plan.Weights = "none that anybody exported"
	case p.fails("silent-fp32"):
		plan.FP16 = false
	case p.fails("other-tensorrt"):
		plan.TensorRT = "10.3.0.26"
	}
	return plan
}

// errForeign is a timing cache that another TensorRT wrote.
var errForeign = errors.New("the timing cache is of another TensorRT")

// timings reads and writes the timing cache of a TensorRT, and returns the log with what is said of it. Where it cannot
// be written the real one warns.
func timings(name, tensorRT, log string) (string, error) {
	const loaded = "[I] [TRT] Loaded %d bytes of timing cache from %s"
	line := regexp.MustCompile(`\[[IW]\] \[TRT\] (?:Loaded \d+ bytes of timing cache from` +
		`|Could not read timing cache from:) timing\.cache.*`)
	warning := fmt.Sprintf("[W] [TRT] Could not read timing cache from: %s. "+
		"A new timing cache will be generated and written.", name)
	old, err := os.ReadFile(name)
	if err == nil {
		warning = fmt.Sprintf(loaded, len(old), name)
		if string(old) != timed(tensorRT) {
			return "", errForeign
		}
	}
	first := true
	log = line.ReplaceAllStringFunc(log, func(line string) string {
		if first {
			first = false
			return warning
		}
		return line
	})
	return log, os.WriteFile(name, []byte(timed(tensorRT)), 0o600)
}

func timed(tensorRT string) string { return "timed by TensorRT " + tensorRT + "\n" }

// print prints what trtexec printed, with this call's arguments in it.
func (p *process) print(log string, given map[string]string) {
	v, banner := p.tensorRT()
	replace := func(pattern, by string) {
		log = regexp.MustCompile(pattern).ReplaceAllLiteralString(log, by)
	}
	switch {
	case v.before(version{9, 0}): // no UUID
		replace(`(?m)^.*\] (Available Devices:|  Device \d|Selected Device ID:|Selected Device UUID:).*\n`, "")
	case p.fails("other-gpu"):
		replace(h100, "GPU-c3c10123-43d8-7094-32ab-39106cb54c35")
	default:
		replace(h100, p.gpu())
	}
	if p.fails("other-model") {
		replace(`NVIDIA H100 80GB HBM3`, "NVIDIA L4")
	}
	replace(`\[TensorRT v100600\] \[b26\]`, "[TensorRT "+banner+"] [b0]")
	replace(`TensorRT version: 10\.6\.0`, "TensorRT version: "+p.env("TRT_VERSION"))
	if given != nil {
		shape := func(name string) string {
			_, dims, _ := strings.Cut(given[name], ":")
			return dims
		}
		replace(`(missing|model)\.onnx`, given["onnx"])
		replace(`(?m)Save engine: .*$`, "Save engine: "+given["saveEngine"])
		replace(`input=1x3x224x224\+64x3x224x224\+256x3x224x224`,
			"input="+shape("minShapes")+"+"+shape("optShapes")+"+"+shape("maxShapes"))
		replace(`MIN=1x3x224x224 OPT=64x3x224x224 MAX=256x3x224x224`,
			"MIN="+shape("minShapes")+" OPT="+shape("optShapes")+" MAX="+shape("maxShapes"))
	}
	replace(`# /usr/src/tensorrt/bin/trtexec .*`, "# "+strings.Join(p.args, " "))
	fmt.Fprint(p.stdout, log)
}
