package steps

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/dalirun/dalirun/pipeline"
)

// buildLog reads what trtexec says while it builds: it tells of each stage once, and keeps what the proof of the engine needs.
// What a TensorRT does not say stays zero. It reads one line at a time.
type buildLog struct {
	tell    func(pipeline.Payload)
	stages  []stage
	reached int // the number of the stage that was told of last
	lines   factLines
	facts   buildFacts
}

func newBuildLog(tell func(pipeline.Payload)) *buildLog {
	return &buildLog{tell: tell, stages: stages(), lines: newFactLines()}
}

// buildFacts are what trtexec said of the engine.
type buildFacts struct {
	PlanVersion string    // the TensorRT that the plan itself names: 10.6.0.26
	Profile     *Profile  // of the model's input
	IOFormats   [2]string // of inputs and outputs, as in fp32:CHW
	// MiB is the size of the plan and Exact how far off it can be, since trtexec writes six digits. Where it does not say it, MiB is
	// that of the engine that it read back from memory, and Exact a whole one.
	MiB, Exact float64
	// NoTimings says that the timing cache which was saved has no entry.
	NoTimings bool
	Device    builtOn
}

// stage is what trtexec does from the first line on that the pattern is in. Of two with one number the first that begins is told.
type stage struct {
	number  int
	after   int // the number of the stage that must be the last; 0 is any earlier one
	pattern *regexp.Regexp
	text    string // may use the pattern's groups
}

// stages are the later ones first. The lines are those of TensorRT 8.0 to 10.6; one that a TensorRT lacks is passed over. trtexec says
// what it read of a timing cache before TensorRT says whether it takes it. How much of it is of use nobody says: 78 s became 10 for the same
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

// read takes one line.
func (l *buildLog) read(line string) {
	l.facts.read(l.lines, line)
	for _, s := range l.stages {
		if s.number <= l.reached {
			return
		}
		if s.after > 0 && s.after != l.reached {
			continue
		}
		if m := s.pattern.FindStringSubmatchIndex(line); m != nil {
			l.reached = s.number
			l.tell(pipeline.Progress{Text: string(s.pattern.ExpandString(nil, s.text, line, m))})
			return
		}
	}
}

// factLines are the lines that say something of the engine. Up to TensorRT 9 a profile has no number.
type factLines struct {
	planVersion, profile, shapes, formats, created, loaded, noTimings *regexp.Regexp
	device                                                            deviceLines
}

func newFactLines() factLines {
	return factLines{
		planVersion: regexp.MustCompile(`Plan was created with TensorRT version ([\d.]+)`),
		profile:     regexp.MustCompile(`Set shape of input tensor (\S+)(?: for optimization profile 0)? to: MIN=(\S+) OPT=(\S+) MAX=(\S+)`),
		shapes:      regexp.MustCompile(`Input build shapes?(?: \(profile 0\))?: ([^=\s]+)=([^+\s]+)\+([^+\s]+)\+([^+,\s]+)`),
		formats:     regexp.MustCompile(`(Input|Output)\(s\)s formats?: (\S+)`),
		created:     regexp.MustCompile(`Created engine with size: (\d+)(\.\d+)? MiB`),
		loaded:      regexp.MustCompile(`Loaded engine size: (\d+) (Mi?B)`),
		noTimings:   regexp.MustCompile(`Serialized 0 timing cache entries`),
		device:      newDeviceLines(),
	}
}

func (f *buildFacts) read(lines factLines, line string) {
	f.Device.read(lines.device, line)
	if m := lines.planVersion.FindStringSubmatch(line); m != nil {
		f.PlanVersion = m[1]
	}
	f.NoTimings = f.NoTimings || lines.noTimings.MatchString(line)
	if m := lines.profile.FindStringSubmatch(line); m != nil {
		f.setProfile(m)
	} else if m := lines.shapes.FindStringSubmatch(line); m != nil && f.Profile == nil { // the arguments as trtexec understood them
		f.setProfile(m)
	}
	if m := lines.formats.FindStringSubmatch(line); m != nil {
		i := map[string]int{"Input": 0, "Output": 1}[m[1]]
		f.IOFormats[i] = m[2]
	}
	if m := lines.created.FindStringSubmatch(line); m != nil {
		f.MiB, _ = strconv.ParseFloat(m[1]+m[2], 64)
		f.Exact = 1
		for range max(0, len(m[2])-1) {
			f.Exact /= 10
		}
	}
	if m := lines.loaded.FindStringSubmatch(line); m != nil && f.MiB == 0 {
		f.MiB, _ = strconv.ParseFloat(m[1], 64)
		f.Exact = 1
		if m[2] == "MB" { // which of the two it means is not known: they differ by 5 %
			f.Exact += 0.05 * f.MiB
		}
	}
}

func (f *buildFacts) setProfile(groups []string) {
	p := Profile{Input: groups[1]}
	for i, dims := range []*[]int64{&p.Min, &p.Opt, &p.Max} {
		for part := range strings.SplitSeq(groups[i+2], "x") {
			n, err := strconv.ParseInt(part, 10, 64)
			if err != nil {
				return
			}
			*dims = append(*dims, n)
		}
	}
	f.Profile = &p
}
