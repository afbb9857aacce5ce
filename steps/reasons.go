package steps

import (
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/trtexec"
	"github.com/dalirun/dalirun/pipeline"
)

// Reasons says in a user's words how the facts of a step's last result differ from the present ones: by the flag, image
// or file that made the difference, each once. A difference that it has no words for is the fact's own.
func Reasons(step pipeline.ID, was, is pipeline.Facts) []pipeline.Change {
	if w, i := weightsOf(was), weightsOf(is); step == IDWeights && w != i {
		// image and program of the step follow from the weights
		return []pipeline.Change{{Fact: "weights", Was: w, Is: i}}
	}
	var reasons []pipeline.Change
	add := func(c pipeline.Change) {
		if !slices.ContainsFunc(reasons, func(r pipeline.Change) bool { return r.Fact == c.Fact }) {
			reasons = append(reasons, c)
		}
	}
	names := maps.Clone(was)
	maps.Copy(names, is)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		w, i := was[name], is[name]
		_, wasSet := was[name]
		_, isSet := is[name]
		switch {
		case w == i && wasSet == isSet:
		case name == "argv":
			for _, c := range argumentReasons(w, i, was["tensorrt"] != is["tensorrt"]) {
				add(c)
			}
		case name == "outputs", name == gpuProofFact, strings.HasSuffix(name, ".py"):
			add(pipeline.Change{Fact: "another version of dalirun, which makes it otherwise"})
		case strings.HasPrefix(name, "input "):
			add(inputReason(strings.TrimPrefix(name, "input "), w, i))
		default:
			add(pipeline.Change{Fact: factWord(name), Was: quotedIfEmpty(w, wasSet), Is: quotedIfEmpty(i, isSet)})
		}
	}
	return reasons
}

// quotedIfEmpty quotes a value that is set and empty, since in a [pipeline.Change] an empty string is a value that is
// not set.
func quotedIfEmpty(value string, set bool) string {
	if set && value == "" {
		return `""`
	}
	return value
}

// weightsOf returns the value of --weights that led to these facts of the step weights.
func weightsOf(facts pipeline.Facts) string {
	const digits = 12 // as container engines show digests
	if _, ok := facts["url"]; ok {
		return string(target.Pretrained)
	}
	if seed := options(facts["argv"])["--seed"]; seed != "" {
		return string(target.Random) + ":" + seed
	}
	sum := facts["sha256"]
	return "a file (SHA-256 " + sum[:min(digits, len(sum))] + "…)"
}

// options returns the options of an argv with their values. The value of an option without one is its name.
func options(argv string) map[string]string {
	values := map[string]string{}
	last := ""
	for field := range strings.FieldsSeq(argv) {
		name, value, joined := strings.Cut(field, "=")
		switch {
		case !strings.HasPrefix(field, "--"):
			if last != "" {
				values[last] = field
			}
			last = ""
			continue
		case joined:
			values[name], last = value, ""
		default:
			values[name], last = name, name
		}
	}
	return values
}

// argumentReasons names the flags that changed the arguments of a program. The arguments of another TensorRT's trtexec
// differ without a flag, which is no reason of its own.
func argumentReasons(was, is string, otherTensorRT bool) []pipeline.Change {
	w, i := options(was), options(is)
	var reasons []pipeline.Change
	add := func(fact, from, to string) {
		if from != to {
			reasons = append(reasons, pipeline.Change{Fact: fact, Was: from, Is: to})
		}
	}
	built, wasBuild := trtexec.BuildOf(strings.Fields(was))
	builds, isBuild := trtexec.BuildOf(strings.Fields(is))
	add("opt-batch", batchText(built.OptBatch), batchText(builds.OptBatch))
	add("max-batch", batchText(built.MaxBatch)+w["--max-batch"], batchText(builds.MaxBatch)+i["--max-batch"])
	if wasBuild && isBuild {
		add("precision", string(built.Precision), string(builds.Precision))
	}
	add("lane", w["--device"], i["--device"])
	for _, setting := range []string{"threads", "hw-decoder-load", "picture-size"} {
		add(servingWord(setting), w["--"+setting], i["--"+setting])
	}
	add("weights", whoseWeights(w), whoseWeights(i))
	if len(reasons) == 0 && !otherTensorRT {
		add("arguments", was, is)
	}
	return reasons
}

// servingWord is what a user calls a setting of `serving:` that is an argument of the DALI pipeline's program.
func servingWord(argument string) string {
	if argument == "threads" {
		argument = "dali-threads"
	}
	return "serving." + argument
}

// batchText is a batch size in words; empty for none.
func batchText(batch int) string {
	if batch == 0 {
		return ""
	}
	return strconv.Itoa(batch)
}

// whoseWeights says whether a program reads the weights as trusted, which a user's file is not. It is empty for a
// program that reads none.
func whoseWeights(program map[string]string) string {
	_, reads := program["--weights"]
	_, ours := program["--trusted"]
	switch {
	case !reads:
		return ""
	case ours:
		return "pretrained or seeded"
	default:
		return "a file of yours"
	}
}

// inputReason is the change of one input of a step: of its contents, or because the step begins or ceases to read it.
func inputReason(name, was, is string) pipeline.Change {
	id, file := path.Split(name)
	word := map[string]string{
		string(IDExporterImage): "exporter image", string(IDServerImage): "server image",
		string(IDWeights):    "contents of the weights",
		string(IDExportONNX): "ONNX model", string(IDCastONNX): "ONNX model in fp16", string(IDBuildEngine): "engine",
		string(IDSerializeDALI): "DALI pipeline",
	}[strings.TrimSuffix(id, "/")]
	if word == "" {
		word = file
	}
	switch {
	case was == "":
		return pipeline.Change{Fact: "it reads the " + word + " now"}
	case is == "":
		return pipeline.Change{Fact: "it does not read the " + word + " any more"}
	default:
		return pipeline.Change{Fact: word, Was: was, Is: is}
	}
}

// factWord returns the name of a fact in a sentence.
func factWord(name string) string {
	if model, ok := strings.CutSuffix(name, "/config.pbtxt"); ok {
		return "configuration of " + model
	}
	switch word := map[string]string{
		"tensorrt": "TensorRT", "gpu": "GPU", "compute": "compute capability", "driver": "NVIDIA driver",
		"sha256": "SHA-256 of the weights",
		"url":    "address of the weights",
	}[name]; {
	case word != "":
		return word
	case strings.HasPrefix(name, "env "):
		return strings.TrimPrefix(name, "env ") + " in the container"
	default:
		return name
	}
}
