package ui

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/charmbracelet/log"

	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/pipeline"
)

const (
	// between is the shortest time between two lines that tell of one step's progress.
	between = 5 * time.Second
	// overdue is how much later than that the last progress of a step may be told of that then works on in silence.
	overdue = time.Second
	// kept is how many lines of a step's output are kept for its group in GitHub's log. All are in the step's log file.
	kept = 2000
)

// plain shows each thing in one line, through a logger. Under GitHub Actions the output of a step is a group, printed
// when the step ends so that steps do not mix, and warnings are annotations.
type plain struct {
	out     *bytes.Buffer
	log     *log.Logger
	at      time.Time // of the event that is shown
	github  bool
	verbose bool
	follow  pipeline.ID
	steps   map[pipeline.ID]*plainStep
	loggers map[pipeline.ID]*log.Logger
}

type plainStep struct {
	reported time.Time // when progress was last shown
	due      bool      // gauge has newer progress
	gauge    gauge
	lines    []string
	omitted  int // the number of lines that are not kept
}

func newPlain(out *bytes.Buffer, o Options) *plain {
	zone := o.Location
	if zone == nil {
		zone = time.UTC
	}
	p := &plain{
		out: out, github: o.Terminal.GitHubActions, verbose: o.Verbose, follow: o.Follow,
		steps: map[pipeline.ID]*plainStep{}, loggers: map[pipeline.ID]*log.Logger{},
	}
	p.log = log.NewWithOptions(out, log.Options{
		ReportTimestamp: true,
		TimeFormat:      time.TimeOnly,
		TimeFunction:    func(time.Time) time.Time { return p.at.In(zone) },
	})
	p.log.SetColorProfile(o.Terminal.palette().profile)
	return p
}

// refresh shows progress that came too soon after earlier progress, once it is due.
func (p *plain) refresh(now time.Time) {
	for _, id := range slices.Sorted(maps.Keys(p.steps)) {
		if s := p.steps[id]; s.due {
			p.progress(id, s, now)
		}
	}
}

// end prints the output of steps that did not end.
func (p *plain) end() {
	for _, id := range slices.Sorted(maps.Keys(p.steps)) {
		p.group(id, p.steps[id], "did not end")
	}
}

// logger returns the logger of a step, which prints its ID.
func (p *plain) logger(id pipeline.ID) *log.Logger {
	l := p.loggers[id]
	if l == nil {
		l = p.log.WithPrefix(string(id))
		p.loggers[id] = l
	}
	return l
}

func (p *plain) step(id pipeline.ID) *plainStep {
	s := p.steps[id]
	if s == nil {
		s = &plainStep{reported: p.at}
		p.steps[id] = s
	}
	return s
}

func (p *plain) draw(e pipeline.Event) {
	p.at = e.Time
	switch x := e.Payload.(type) {
	case pipeline.RunStarted:
		text := "run " + e.Run
		if f := facts(x.Facts); f != "" {
			text += ": " + f
		}
		p.logger(e.Step).Info(text)
	case pipeline.Decided:
		if isShown(x.Verdict, p.verbose) {
			p.logger(e.Step).Info(printable.Line(x.String()))
		}
	case pipeline.Started:
		s := p.step(e.Step)
		s.reported, s.due, s.gauge = e.Time, false, gauge{}
		p.logger(e.Step).Info("started")
	case pipeline.Line:
		p.line(e.Step, x)
	case pipeline.Progress:
		s := p.step(e.Step)
		s.gauge.set(x)
		p.progress(e.Step, s, e.Time)
	case pipeline.Warning:
		p.warn(e.Step, printable.Line(x.Text))
	case pipeline.Ended:
		p.ended(e.Step, x)
	case pipeline.RunEnded:
		if x.Err != nil {
			p.logger(e.Step).Error(runEnding(x))
		} else {
			p.logger(e.Step).Info(runEnding(x))
		}
	case pipeline.Result: // results are for reports
	}
}

// progress shows the progress of a step, unless it was shown a moment ago.
func (p *plain) progress(id pipeline.ID, s *plainStep, now time.Time) {
	s.due = now.Sub(s.reported) < between
	if !s.due {
		p.at, s.reported = now, now
		p.logger(id).Info(s.gauge.String())
	}
}

func (p *plain) line(id pipeline.ID, x pipeline.Line) {
	switch {
	case p.github:
		s := p.step(id)
		if len(s.lines) == kept { // the last lines say more than the first ones
			s.lines, s.omitted = s.lines[1:], s.omitted+1
		}
		s.lines = append(s.lines, printable.Line(x.Text))
	case p.verbose || id == p.follow:
		p.logger(id).Print(printable.Line(x.Text))
	}
}

func (p *plain) warn(id pipeline.ID, text string) {
	if p.github {
		p.out.WriteString(command("warning", string(id), text))
		return
	}
	p.logger(id).Warn(text)
}

func (p *plain) ended(id pipeline.ID, x pipeline.Ended) {
	if x.State == pipeline.Failed {
		p.logger(id).Error(ending(x))
	} else {
		p.logger(id).Info(ending(x))
	}
	if s := p.steps[id]; s != nil {
		delete(p.steps, id)
		p.group(id, s, ending(x))
	}
}

func (p *plain) group(id pipeline.ID, s *plainStep, how string) {
	if len(s.lines) == 0 {
		return
	}
	p.out.WriteString("::group::" + escapeData("output of "+string(id)+" ("+how+")") + "\n")
	if s.omitted > 0 {
		p.out.WriteString("| … " + strconv.Itoa(s.omitted) + " earlier lines are in the log file\n")
	}
	for _, text := range s.lines {
		p.out.WriteString("| " + harmless(text) + "\n")
	}
	p.out.WriteString("::endgroup::\n")
}
