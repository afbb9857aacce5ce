package steps

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// Reasons says in a user's words how the facts of a step's last result differ from those of now: by the flag, the image or the file that made
// the difference, each once. What it has no words for stays as the facts have it.
func Reasons(step pipeline.ID, was, is pipeline.Facts) []pipeline.Change {
	if w, i := weightsOf(was), weightsOf(is); step == IDWeights && w != i {
		return []pipeline.Change{{Fact: "weights", Was: w, Is: i}} // its image and program follow from that
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
		_, had := was[name]
		_, has := is[name]
		switch {
		case w == i && had == has:
		case name == "argv":
			for _, c := range argumentReasons(w, i, was["tensorrt"] != is["tensorrt"]) {
				add(c)
			}
		case name == "outputs", name == gpuProofFact, strings.HasSuffix(name, ".py"):
			add(pipeline.Change{Fact: "another version of dalirun, which makes it otherwise"})
		case strings.HasPrefix(name, "input "):
			add(inputReason(strings.TrimPrefix(name, "input "), w, i))
		default:
			add(pipeline.Change{Fact: factWord(name), Was: quotedIfEmpty(w, had), Is: quotedIfEmpty(i, has)})
		}
	}
	return reasons
}

// quotedIfEmpty tells a value that is empty from one that is not there, as [pipeline.Change] wants it.
func quotedIfEmpty(value string, there bool) string {
	if there && value == "" {
		return `""`
	}
	return value
}

// weightsOf is --weights as it was when the facts of the step were those.
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

// options are those of an argv by name, with their values; those without have their own name for one.
func options(argv string) map[string]string {
	found := map[string]string{}
	last := ""
	for field := range strings.FieldsSeq(argv) {
		name, value, joined := strings.Cut(field, "=")
		switch {
		case !strings.HasPrefix(field, "--"):
			if last != "" {
				found[last] = field
			}
			last = ""
			continue
		case joined:
			found[name], last = value, ""
		default:
			found[name], last = name, name
		}
	}
	return found
}

// argumentReasons are the flags that stand behind the arguments of a program. Another TensorRT has another dialect, which is no reason of its own.
func argumentReasons(was, is string, otherTensorRT bool) []pipeline.Change {
	w, i := options(was), options(is)
	var reasons []pipeline.Change
	add := func(fact, from, to string) {
		if from != to {
			reasons = append(reasons, pipeline.Change{Fact: fact, Was: from, Is: to})
		}
	}
	add("opt-batch", batchOf(w["--optShapes"]), batchOf(i["--optShapes"]))
	add("max-batch", batchOf(w["--maxShapes"])+w["--max-batch"], batchOf(i["--maxShapes"])+i["--max-batch"])
	if w["--optShapes"] != "" && i["--optShapes"] != "" {
		add("precision", precisionOf(w), precisionOf(i))
	}
	add("lane", w["--device"], i["--device"])
	add("weights", whoseWeights(w), whoseWeights(i))
	if len(reasons) == 0 && !otherTensorRT {
		add("arguments", was, is)
	}
	return reasons
}

// batchOf is 64 of "input:64x3x224x224".
func batchOf(shape string) string {
	_, dims, _ := strings.Cut(shape, ":")
	batch, _, _ := strings.Cut(dims, "x")
	return batch
}

// precisionOf is that of an engine by trtexec's options: TF32 is switched off where fp32 is asked for, and nowhere else.
func precisionOf(trtexec map[string]string) string {
	if _, ok := trtexec["--noTF32"]; ok {
		return string(release.FP32)
	}
	return string(release.FP16)
}

// whoseWeights tells a user's file, which is loaded with care, from what dalirun got or made; empty for a program that reads none.
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

// inputReason is that what a step reads is another one, or that it reads something else.
func inputReason(name, was, is string) pipeline.Change {
	id, file := path.Split(name)
	word := map[string]string{
		string(IDExporterImage): "exporter image", string(IDServerImage): "server image", string(IDWeights): "contents of the weights",
		string(IDExportONNX): "ONNX model", string(IDCastONNX): "ONNX model in fp16", string(IDBuildEngine): "engine", string(IDSerializeDALI): "DALI pipeline",
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

// factWord is what a fact is called in a sentence.
func factWord(name string) string {
	if model, ok := strings.CutSuffix(name, "/config.pbtxt"); ok {
		return "configuration of " + model
	}
	switch word := map[string]string{
		"tensorrt": "TensorRT", "gpu": "GPU", "compute": "compute capability", "driver": "NVIDIA driver", "sha256": "SHA-256 of the weights",
		"url": "address of the weights",
	}[name]; {
	case word != "":
		return word
	case strings.HasPrefix(name, "env "):
		return strings.TrimPrefix(name, "env ") + " in the container"
	default:
		return name
	}
}
