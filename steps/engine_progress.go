package steps

import (
	"bytes"
	"context"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/pipeline"
)

// buildLog reads what trtexec says while it builds: it tells of each stage once, and keeps what the proof of the engine needs.
// What a TensorRT does not say stays zero. It is safe for concurrent use.
type buildLog struct {
	tell   func(pipeline.Payload)
	stages []stage

	mu      sync.Mutex
	reached int // the stage that was told of last
	known   remedy.Finder
	facts   buildFacts
}

func newBuildLog(tell func(pipeline.Payload)) *buildLog {
	return &buildLog{tell: tell, stages: stages()}
}

// buildFacts are what trtexec said of the engine.
type buildFacts struct {
	PlanVersion string    // the TensorRT that the plan itself names: 10.6.0.26
	Profile     *profile  // of the model's input
	IOFormats   [2]string // of inputs and outputs, as in fp32:CHW
	// MiB is the size of the plan and Exact how far off it can be, since trtexec writes six digits. Where it does not say it, MiB is
	// that of the engine that it read back from memory, and Exact a whole one.
	MiB, Exact float64
}

// profile is the range of shapes that an engine takes, and the one that it is tuned for.
type profile struct {
	Input string  `json:"input"`
	Min   []int64 `json:"min"`
	Opt   []int64 `json:"opt"`
	Max   []int64 `json:"max"`
}

// stage is what trtexec does from the first line on that the pattern is in.
type stage struct {
	pattern *regexp.Regexp
	text    string // may use the pattern's groups
}

// stages are in their order. The lines are those of TensorRT 8.0 to 10.6; one that a TensorRT lacks is passed over.
func stages() []stage {
	list := []struct{ pattern, text string }{
		{`^&&&& RUNNING TensorRT\.trtexec`, "loading TensorRT"},
		{`Start parsing network model|Input filename: `, "parsing the model"},
		{`Loaded \d+ bytes of timing cache`, "timing kernels: an earlier build timed most"},
		{`Could not read timing cache|timing cache in use|timing cache will be generated`, "timing kernels, which takes a minute or more"},
		{`Detected \d+ inputs? and \d+ output network tensors`, "building the engine"},
		{`Engine built in ([\d.]+) sec`, "engine built in $1 s"},
		{`Skipped inference phase|Engine deserialized in|^&&&& PASSED`, "saving and checking the engine"},
	}
	stages := make([]stage, len(list))
	for i, s := range list {
		stages[i] = stage{regexp.MustCompile(s.pattern), s.text}
	}
	return stages
}

// timingStages are two ways of one stage: who is in the first does not go on to the second.
const timingStages = 3

// read takes one line.
func (l *buildLog) read(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known.Read(line)
	l.facts.read(line)
	for i := len(l.stages); i > l.reached; i-- {
		s := l.stages[i-1]
		m := s.pattern.FindStringSubmatchIndex(line)
		if m == nil {
			continue
		}
		if l.reached = i; i == timingStages {
			l.reached++
		}
		l.tell(pipeline.Progress{Text: string(s.pattern.ExpandString(nil, s.text, line, m))})
		return
	}
}

// said returns what was read.
func (l *buildLog) said() buildFacts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.facts
}

// remedy returns what is known of a failure.
func (l *buildLog) remedy() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, _, _ := l.known.Found()
	return r.ID
}

// The lines that say something of the engine. Up to TensorRT 9 a profile has no number.
const (
	linePlanVersion = `Plan was created with TensorRT version ([\d.]+)`
	lineProfile     = `Set shape of input tensor (\S+)(?: for optimization profile 0)? to: MIN=(\S+) OPT=(\S+) MAX=(\S+)`
	lineShapes      = `Input build shapes?(?: \(profile 0\))?: ([^=\s]+)=([^+\s]+)\+([^+\s]+)\+([^+,\s]+)`
	lineFormats     = `(Input|Output)\(s\)s formats?: (\S+)`
	lineCreated     = `Created engine with size: (\d+)(\.\d+)? MiB`
	lineLoaded      = `Loaded engine size: (\d+) Mi?B`
)

func (f *buildFacts) read(line string) {
	find := func(pattern string) []string { return regexp.MustCompile(pattern).FindStringSubmatch(line) }
	switch {
	case strings.Contains(line, "Plan was created with"):
		if m := find(linePlanVersion); m != nil {
			f.PlanVersion = m[1]
		}
	case strings.Contains(line, "Set shape of input tensor"):
		f.setProfile(find(lineProfile))
	case strings.Contains(line, "Input build shape") && f.Profile == nil: // the arguments as trtexec understood them
		f.setProfile(find(lineShapes))
	case strings.Contains(line, "(s)s format"):
		if m := find(lineFormats); m != nil {
			i := map[string]int{"Input": 0, "Output": 1}[m[1]]
			f.IOFormats[i] = m[2]
		}
	case strings.Contains(line, "Created engine with size"):
		if m := find(lineCreated); m != nil {
			f.MiB, _ = strconv.ParseFloat(m[1]+m[2], 64)
			f.Exact = 1
			for range max(0, len(m[2])-1) {
				f.Exact /= 10
			}
		}
	case strings.Contains(line, "Loaded engine size") && f.MiB == 0:
		if m := find(lineLoaded); m != nil {
			f.MiB, _ = strconv.ParseFloat(m[1], 64)
			f.Exact = 1
		}
	}
}

func (f *buildFacts) setProfile(m []string) {
	const groups = 5
	if len(m) != groups {
		return
	}
	p := profile{Input: m[1]}
	for i, dims := range []*[]int64{&p.Min, &p.Opt, &p.Max} {
		for part := range strings.SplitSeq(m[i+2], "x") {
			n, err := strconv.ParseInt(part, 10, 64)
			if err != nil {
				return
			}
			*dims = append(*dims, n)
		}
	}
	f.Profile = &p
}

// reading is a runtime whose containers' output goes to a log as well, line by line.
type reading struct {
	container.Runtime

	log *buildLog
}

// Run runs spec, whose two streams do not mix their lines.
func (r reading) Run(ctx context.Context, spec container.Spec, out container.Streams) (container.Container, error) {
	out.Stdout = io.MultiWriter(out.Stdout, &lineReader{read: r.log.read})
	out.Stderr = io.MultiWriter(out.Stderr, &lineReader{read: r.log.read})
	return r.Runtime.Run(ctx, spec, out)
}

// lineReader cuts what is written into lines. One that is too long is lost: none that is looked for is.
type lineReader struct {
	read func(line string)
	rest []byte
}

func (l *lineReader) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, ok := bytes.Cut(l.rest, []byte{'\n'})
		if !ok {
			if len(l.rest) > maxTailLine {
				l.rest = nil
			}
			return len(p), nil
		}
		l.read(strings.TrimRight(string(line), "\r"))
		l.rest = rest
	}
}
