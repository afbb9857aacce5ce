package trtexec

import "regexp"

// stage is a part of a build. It begins with the first line that matches the pattern. Of two stages with one number,
// only the first to begin is reported.
type stage struct {
	number  int
	after   int // the number of the stage that must have been reported last; 0 is any
	pattern *regexp.Regexp
	text    string // may use the pattern's groups
}

// stages returns the stages of a build, the last one first. The patterns are lines of TensorRT 8.0 to 10.6; a stage
// whose line a TensorRT does not print is skipped. trtexec prints that it read a timing cache before TensorRT prints
// whether it uses it. Neither prints how much of it is of use: on an H100, a build of 78 s took 10 for the same shapes,
// and 82 for others.
func stages() []stage {
	const timesAll = "timing kernels, which takes a minute or more"
	const cold = `Could not read timing cache|Timing cache header mismatch|timing cache will not be used` +
		`|invalid timing cache|Local timing cache in use`
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
