package trtexec

import "regexp"

// stage is what trtexec does from the first line on that matches the pattern. Of two with one number the first that begins is reported.
type stage struct {
	number  int
	after   int // the number of the stage that must be the last; 0 is any earlier one
	pattern *regexp.Regexp
	text    string // may use the pattern's groups
}

// stages are the later ones first. The lines are those of TensorRT 8.0 to 10.6; one that a TensorRT lacks is passed over. trtexec prints
// what it read of a timing cache before TensorRT prints whether it takes it. How much of it is of use is never printed: 78 s became 10 for the same
// shapes on an H100, and 82 for others.
func stages() []stage {
	const timesAll = "timing kernels, which takes a minute or more"
	const cold = `Could not read timing cache|Timing cache header mismatch|timing cache will not be used|invalid timing cache|Local timing cache in use`
	list := []struct {
		number, after int
		pattern, text string
	}{
		{7, 0, `Skipped inference phase|Engine deserialized in|^&&&& PASSED`, "saving and checking the engine"},
		{6, 0, `Engine built in ([\d.]+) sec`, "engine built in $1 s"},
		{5, 0, `Detected \d+ inputs? and \d+ output network tensors`, "building the engine"},
		{4, 0, cold, timesAll},
		{4, 3, `Global timing cache in use`, "timing kernels that no earlier build timed"},
		{4, 0, `Global timing cache in use`, timesAll},
		{3, 0, `Loaded [1-9]\d* bytes of timing cache`, "reading how long kernels took an earlier build"},
		{2, 0, `Start parsing network model|Input filename: `, "parsing the model"},
		{1, 0, `^&&&& RUNNING TensorRT\.trtexec`, "loading TensorRT"},
	}
	stages := make([]stage, len(list))
	for i, s := range list {
		stages[i] = stage{s.number, s.after, regexp.MustCompile(s.pattern), s.text}
	}
	return stages
}
