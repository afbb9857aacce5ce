package trtexec

import (
	"regexp"
	"strconv"
	"strings"
)

// Log reads the output of trtexec while it builds: it reports each stage once, and keeps what the proof of the engine
// needs.
type Log struct {
	onStage  func(text string)
	stages   []stage
	stage    int // the number of the stage that was reported last; 0 before the first
	patterns factPatterns
	facts    LogFacts
}

// NewLog returns a Log that has read nothing. It calls onStage with a text for the user whenever trtexec begins a
// stage.
func NewLog(onStage func(text string)) *Log {
	return &Log{onStage: onStage, stages: stages(), patterns: newFactPatterns()}
}

// Read takes the next line, without its end. It is not for several goroutines at a time.
func (l *Log) Read(line string) {
	l.facts.read(l.patterns, line)
	for _, s := range l.stages {
		if s.number <= l.stage {
			return
		}
		if s.after > 0 && s.after != l.stage {
			continue
		}
		if m := s.pattern.FindStringSubmatchIndex(line); m != nil {
			l.stage = s.number
			l.onStage(string(s.pattern.ExpandString(nil, s.text, line, m)))
			return
		}
	}
}

// Facts returns the facts of the engine that were read so far.
func (l *Log) Facts() LogFacts { return l.facts }

// LogFacts are the facts of an engine that trtexec prints while it builds it. A fact that this TensorRT does not print
// is zero.
type LogFacts struct {
	PlanVersion  string   // the TensorRT that the plan itself names: 10.6.0.26
	Profile      *Profile // of the model's input
	InputFormat  string   // of the inputs, as in fp32:CHW
	OutputFormat string   // of the outputs
	// PlanMiB is the size of the plan in MiB. PlanMiBError is the largest error of this figure, since trtexec prints
	// six digits. Where trtexec does not print the size, PlanMiB is the size of the engine that it read back from
	// memory, and PlanMiBError is 1 or more.
	PlanMiB, PlanMiBError float64
	// EmptyTimingCache says that the saved timing cache has no entry.
	EmptyTimingCache bool
	GPU              SelectedGPU
}

// factPatterns are the lines that hold facts of the engine. Up to TensorRT 9 a profile has no number.
type factPatterns struct {
	planVersion, profile, shapes, formats, created, loaded, emptyTimingCache *regexp.Regexp
	gpu                                                                      gpuPatterns
}

func newFactPatterns() factPatterns {
	return factPatterns{
		planVersion: regexp.MustCompile(`Plan was created with TensorRT version ([\d.]+)`),
		profile: regexp.MustCompile(`Set shape of input tensor (\S+)(?: for optimization profile 0)? ` +
			`to: MIN=(\S+) OPT=(\S+) MAX=(\S+)`),
		shapes: regexp.MustCompile(`Input build shapes?(?: \(profile 0\))?: ` +
			`([^=\s]+)=([^+\s]+)\+([^+\s]+)\+([^+,\s]+)`),
		formats:          regexp.MustCompile(`(Input|Output)\(s\)s formats?: (\S+)`),
		created:          regexp.MustCompile(`Created engine with size: (\d+)(\.\d+)? MiB`),
		loaded:           regexp.MustCompile(`Loaded engine size: (\d+) (Mi?B)`),
		emptyTimingCache: regexp.MustCompile(`Serialized 0 timing cache entries`),
		gpu:              newGPUPatterns(),
	}
}

func (f *LogFacts) read(patterns factPatterns, line string) {
	f.GPU.read(patterns.gpu, line)
	if m := patterns.planVersion.FindStringSubmatch(line); m != nil {
		f.PlanVersion = m[1]
	}
	f.EmptyTimingCache = f.EmptyTimingCache || patterns.emptyTimingCache.MatchString(line)
	if m := patterns.profile.FindStringSubmatch(line); m != nil {
		f.setProfile(m)
		// the arguments as trtexec understood them
	} else if m := patterns.shapes.FindStringSubmatch(line); m != nil && f.Profile == nil {
		f.setProfile(m)
	}
	if m := patterns.formats.FindStringSubmatch(line); m != nil {
		format := map[string]*string{"Input": &f.InputFormat, "Output": &f.OutputFormat}[m[1]]
		*format = m[2]
	}
	f.readSize(patterns, line)
}

func (f *LogFacts) readSize(patterns factPatterns, line string) {
	if m := patterns.created.FindStringSubmatch(line); m != nil {
		f.PlanMiB, _ = strconv.ParseFloat(m[1]+m[2], 64)
		f.PlanMiBError = 1
		for range max(0, len(m[2])-1) {
			f.PlanMiBError /= 10
		}
	}
	if m := patterns.loaded.FindStringSubmatch(line); m != nil && f.PlanMiB == 0 {
		f.PlanMiB, _ = strconv.ParseFloat(m[1], 64)
		f.PlanMiBError = 1
		if m[2] == "MB" { // which of the two it means is not known: they differ by 5 %
			f.PlanMiBError += 0.05 * f.PlanMiB
		}
	}
}

func (f *LogFacts) setProfile(groups []string) {
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
