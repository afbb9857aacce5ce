package record

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/dalirun/dalirun/internal/cause"
	"github.com/dalirun/dalirun/internal/parity"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// Run is what the events of a record tell of its run.
type Run struct {
	ID      string            `json:"run"`
	Facts   map[string]string `json:"facts,omitempty"` // of the whole run: lane, image source, weights
	Steps   []Step            `json:"steps,omitempty"` // in the order of the plan
	Started time.Time         `json:"started,omitzero"`
	// Ended says that the run told of its end.
	Ended    bool           `json:"ended"`
	Seconds  float64        `json:"seconds,omitempty"`
	Error    string         `json:"error,omitempty"`
	Warnings []string       `json:"warnings,omitempty"`
	Parity   *parity.Report `json:"parity,omitempty"`

	clockBack time.Duration // by how much the clock was set back between two events
}

// Step is what the events tell of a step.
type Step struct {
	ID          pipeline.ID          `json:"id"`
	Verdict     string               `json:"verdict,omitempty"` // what was to become of it, and why
	State       pipeline.EndState    `json:"state,omitempty"`   // empty for one that did not end
	Began       bool                 `json:"began,omitempty"`
	Seconds     float64              `json:"seconds,omitempty"`
	Error       string               `json:"error,omitempty"`
	Fingerprint pipeline.Fingerprint `json:"fingerprint,omitempty"`
	Facts       pipeline.Facts       `json:"facts,omitempty"`
	Digests     map[string]string    `json:"digests,omitempty"` // of its outputs, by name
}

// event is an event as it is written.
type event struct {
	Run  string          `json:"run"`
	Time time.Time       `json:"time"`
	Step pipeline.ID     `json:"step"`
	Kind string          `json:"kind"`
	Data json.RawMessage `json:"data"`
}

// Run returns what the events tell. Events that it does not know, and one that was cut, are left out.
func (r *Record) Run() Run {
	run := Run{ID: r.Header.Run, Facts: map[string]string{}, Steps: []Step{}}
	var last time.Time
	for line := range bytes.Lines(r.files[EventsFile]) {
		var e event
		if json.Unmarshal(line, &e) == nil && e.Kind != "" {
			run.take(e)
			run.clockBack = max(run.clockBack, last.Sub(e.Time))
			last = e.Time
		}
	}
	return run
}

// noticed returns what the events tell of machine and infrastructure, whatever the run came to.
func (r Run) noticed() []cause.Cause {
	all := cause.Notices(r.Warnings)
	if r.clockBack > time.Second { // steps work at a time, and their events may change places
		all = append(all, cause.Cause{
			ID: "clock-moved", Turn: cause.Environment,
			Text: "the machine's clock was set back while the run was at work, by " + r.clockBack.Round(time.Second).String(),
		})
	}
	return all
}

// What is told of a run is bounded: one has 11 steps, and a file may say that it has a million.
const (
	mostSteps    = 100
	mostWarnings = 1000
)

func (r *Run) step(id pipeline.ID) *Step {
	i := slices.IndexFunc(r.Steps, func(s Step) bool { return s.ID == id })
	switch {
	case i >= 0:
		return &r.Steps[i]
	case len(r.Steps) >= mostSteps:
		return &Step{} // which nobody sees
	default:
		r.Steps = append(r.Steps, Step{ID: id})
		return &r.Steps[len(r.Steps)-1]
	}
}

func (r *Run) take(e event) {
	decode := func(value any) { _ = json.Unmarshal(e.Data, value) } // a form that is not known is left out
	if r.ID == "" {
		r.ID = e.Run
	}
	switch e.Kind {
	case "run.started":
		var data pipeline.RunStarted
		decode(&data)
		r.Facts, r.Started = data.Facts, e.Time
		for _, id := range data.Steps {
			r.step(id)
		}
	case "step.decided":
		var data pipeline.Verdict
		decode(&data)
		r.step(e.Step).Verdict = data.String()
	case "step.fingerprinted":
		var data pipeline.Fingerprinted
		decode(&data)
		s := r.step(e.Step)
		s.Fingerprint, s.Facts = data.Fingerprint, data.Facts
	case "step.started":
		r.step(e.Step).Began = true
	case "step.ended":
		var data struct {
			State   pipeline.EndState `json:"state"`
			Seconds float64           `json:"seconds"`
			Error   string            `json:"error"`
			Digests map[string]string `json:"digests"`
		}
		decode(&data)
		s := r.step(e.Step)
		s.State, s.Seconds, s.Error, s.Digests = data.State, data.Seconds, data.Error, data.Digests
	case "step.result":
		var data struct {
			Name  string          `json:"name"`
			Value json.RawMessage `json:"value"`
		}
		decode(&data)
		if data.Name == parityResult {
			r.Parity = &parity.Report{}
			_ = json.Unmarshal(data.Value, r.Parity)
		}
	case "warning":
		var data pipeline.Warning
		decode(&data)
		if len(r.Warnings) < mostWarnings {
			r.Warnings = append(r.Warnings, data.Text)
		}
	case "run.ended":
		var data struct {
			Seconds float64 `json:"seconds"`
			Error   string  `json:"error"`
		}
		decode(&data)
		r.Ended, r.Seconds, r.Error = true, data.Seconds, data.Error
	}
}

// parityResult is the name of the comparisons among the results of package result.
const parityResult = "parity"

// failed returns the step that failed, or that worked when the run was killed; empty if there is none.
func (r Run) failed() pipeline.ID {
	for _, s := range r.Steps {
		if s.State == pipeline.Failed {
			return s.ID
		}
	}
	for _, s := range r.Steps {
		if s.Began && s.State == "" {
			return s.ID
		}
	}
	return ""
}

// Failure returns the error that the run ended with; nil if it ended with none, or has none on record.
func (r *Record) Failure() *cause.Failure {
	var f cause.Failure
	if r.Decode(FailureFile, &f) != nil {
		return nil
	}
	return &f
}

// Cause returns why the run failed, by what this program knows, or, if the record ends before that can be told, by what
// the program knew that wrote it. ok is false for a run that did not fail, and for one that ended in an error that is
// not on record, as in the folder of a run.
func (r *Record) Cause() (c cause.Cause, ok bool) {
	if r.Running {
		return c, false
	}
	run := r.Run()
	failure := r.Failure()
	if failure == nil && r.Complete {
		if run.Error == "" {
			return c, r.Cut != nil && r.Decode(CauseFile, &c) == nil
		}
		failure = &cause.Failure{Text: run.Error, Step: run.failed()} // of a folder, which has the text alone
	}
	var t target.Target
	_ = r.Decode(TargetFile, &t) // a run that was refused has none
	var gpus []string
	for _, gpu := range t.Chosen {
		gpus = append(gpus, gpu.BusID)
	}
	var request target.Request
	_ = r.Decode(RequestFile, &request) // nor has one whose flags could not be read
	var names []string
	for _, set := range request.Settings {
		names = append(names, set.Value)
	}
	e := cause.Evidence{
		Failure: failure, Names: names, NoGPU: t.Lane == target.CPU, GPUs: gpus, Step: run.failed(), Check: r.refusedBy(),
		Kernel: r.lines(KernelFile), OthersOnGPU: r.othersOnGPU(run, gpus), Parity: run.Parity,
	}
	if failure != nil && failure.Step == "" {
		failure.Step = e.Step
	}
	if log, err := r.File(LogFile(string(run.failed()))); err == nil {
		e.Log = withoutTimes(log)
	}
	if a, _, err := r.Answers(); err == nil {
		e.Preprocessing = parity.PreprocessingCause(a.Tensor, a.WantTensor)
	}
	return cause.Find(e), true
}

// withoutTimes returns the lines of a log as the program printed them: what a tool marks as a warning begins so.
func withoutTimes(log []byte) string {
	var b strings.Builder
	for line := range strings.Lines(string(log)) {
		if at, text, ok := strings.Cut(line, " "); ok {
			if _, err := time.Parse(time.RFC3339Nano, at); err == nil {
				line = text
			}
		}
		b.WriteString(line)
	}
	return b.String()
}

// refusedBy returns the check of the obstacle that refused the run.
func (r *Record) refusedBy() string {
	var obstacles []struct {
		Check string `json:"check"`
		Doubt bool   `json:"doubt"`
	}
	if r.Decode(ObstaclesFile, &obstacles) != nil {
		return ""
	}
	for _, o := range obstacles {
		if !o.Doubt {
			return o.Check
		}
	}
	return ""
}

func (r *Record) lines(name string) []string {
	content, err := r.File(name)
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimRight(string(content), "\n"), "\n")
}

// othersOf is the warning of a build beside other programs, which names them.
var othersOf = regexp.MustCompile(`^others (?:came to )?compute where the engine (?:is|was) built: (.*?); the engine `)

// othersOnGPU returns the programs that computed on the GPUs of the run beside it, before it or after: by their names
// where the run warned of them, which the state of the GPU does not have.
func (r *Record) othersOnGPU(run Run, gpus []string) []string {
	var all []string
	for _, text := range run.Warnings {
		if named := othersOf.FindStringSubmatch(text); named != nil {
			all = append(all, named[1])
		}
	}
	if len(all) > 0 {
		return all
	}
	for _, name := range []string{GPUBeforeFile, GPUAfterFile} {
		content, err := r.File(name)
		if err != nil {
			continue
		}
		for _, p := range processes(content, gpus) {
			if !slices.Contains(all, p) {
				all = append(all, p)
			}
		}
	}
	return all
}

// processes returns, for people, the programs that nvidia-smi -q -x lists as computing on some GPUs, by their bus
// addresses; on all of them if these are not known. A desktop's programs draw, which is type G.
func processes(smi []byte, gpus []string) []string {
	var log struct {
		GPUs []struct {
			ID        string `xml:"id,attr"` // its bus address
			Processes []struct {
				PID    string `xml:"pid"` // the name is taken out, as of what others do
				Type   string `xml:"type"`
				Memory string `xml:"used_memory"`
			} `xml:"processes>process_info"`
		} `xml:"gpu"`
	}
	if xml.Unmarshal(smi, &log) != nil {
		return nil
	}
	var all []string
	for _, gpu := range log.GPUs {
		ours := func(address string) bool { return strings.EqualFold(address, gpu.ID) }
		if len(gpus) > 0 && gpu.ID != "" && !slices.ContainsFunc(gpus, ours) {
			continue
		}
		for _, p := range gpu.Processes {
			if p.Type == "G" {
				continue
			}
			all = append(all, fmt.Sprintf("pid %s, %s", p.PID, p.Memory))
		}
	}
	return all
}

// ErrNoTensors says that a record has no tensors: only a verification that failed leaves them.
var ErrNoTensors = errors.New("it has no tensors: a run keeps them if its answers were compared and are not PyTorch's")

// Answers returns what the run compared, and its precision. It is [ErrNoTensors] if the record has not all of it.
func (r *Record) Answers() (parity.Answers, release.Precision, error) {
	var a parity.Answers
	for name, to := range map[string]*[]float32{
		ServedTensor: &a.Tensor, ServedLogits: &a.Logits, ServedAnswer: &a.Ensemble,
		ReferenceTensor: &a.WantTensor, ReferenceLogits: &a.WantLogits,
	} {
		data, err := r.File(name)
		if errors.Is(err, fs.ErrNotExist) {
			return a, "", ErrNoTensors
		}
		if err != nil {
			return a, "", err
		}
		if *to, err = DecodeFloats(name, data); err != nil {
			return a, "", err
		}
	}
	var t target.Target
	if err := r.Decode(TargetFile, &t); err != nil {
		return a, "", err
	}
	return a, t.Precision, nil
}
