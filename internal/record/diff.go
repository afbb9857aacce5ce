package record

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/parity"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// Area is what a difference is of. What may be a cause comes first, and what follows from it last.
type Area string

// The areas, in order.
const (
	Asked   Area = "asked"   // command, flags, variables, picture
	Program Area = "program" // dalirun
	Machine Area = "machine" // system, driver, GPU, container engine
	Images  Area = "images"
	Inputs  Area = "inputs" // what the results of steps depend on
	Made    Area = "made"   // the results
	Came    Area = "came"   // verdict, comparisons
)

// Difference is one fact that differs between two records.
type Difference struct {
	Area Area   `json:"area"`
	Fact string `json:"fact"`
	Was  string `json:"was,omitempty"`
	Is   string `json:"is,omitempty"`
}

// String is "driver: 575.51 → 580.159". Values are whole, but for digests, which are cut as container engines show
// them.
func (d Difference) String() string {
	short := func(value string) string {
		if strings.HasPrefix(value, "sha256:") {
			return pipeline.Short(value)
		}
		return value
	}
	switch {
	case d.Was == "" && d.Is == "":
		return d.Fact
	case d.Was == "":
		return d.Fact + " is new: " + short(d.Is)
	case d.Is == "":
		return d.Fact + " is gone: " + short(d.Was)
	default:
		return d.Fact + ": " + short(d.Was) + " → " + short(d.Is)
	}
}

// Comparison is what differs between two records, and what does not.
type Comparison struct {
	Version int          `json:"version"`
	Was     string       `json:"was"` // run
	Is      string       `json:"is"`
	Differs []Difference `json:"differs"`
	Same    []string     `json:"same"` // names of facts that both have, and that are the same
	// Lacking are names of facts that one of them does not have, as one that ends early.
	Lacking []string `json:"lacking,omitempty"`
}

// fact is a named value of a record.
type fact struct {
	area        Area
	name, value string
}

// Diff compares two records, causes before consequences. reasons says in a user's words how the facts of a step differ.
func Diff(
	was, is *Record, reasons func(step pipeline.ID, was, is pipeline.Facts) []pipeline.Change,
) Comparison {
	runs := [2]Run{was.Run(), is.Run()}
	c := Comparison{
		Version: 1, Was: cmp.Or(runs[0].ID, was.Path), Is: cmp.Or(runs[1].ID, is.Path),
		Differs: []Difference{}, Same: []string{},
	}
	before, now := was.facts(runs[0]), is.facts(runs[1])
	c.compare(before, now, Asked, Program, Machine, Images)
	c.steps(runs, reasons)
	c.compare(before, now, Made, Came)
	return c
}

// compare adds the facts of areas, in the order in which the records have them.
func (c *Comparison) compare(was, is []fact, areas ...Area) {
	before, now := byName(was), byName(is)
	both := append(slices.Clone(is), slices.DeleteFunc(slices.Clone(was), func(f fact) bool {
		_, has := now[f.key()]
		return has
	})...)
	for _, area := range areas {
		for _, f := range both {
			if f.area != area {
				continue
			}
			w, had := before[f.key()]
			i, has := now[f.key()]
			switch {
			case had && has && w == i:
				c.Same = appendName(c.Same, f.name)
			case had && has, area == Asked, area == Came:
				c.add(Difference{Area: area, Fact: f.name, Was: w, Is: i})
			default:
				c.Lacking = appendName(c.Lacking, f.name)
			}
		}
	}
}

func (f fact) key() fact { return fact{area: f.area, name: f.name} }

// byName returns the values of facts by area and name.
func byName(all []fact) map[fact]string {
	values := map[fact]string{}
	for _, f := range all {
		values[f.key()] = f.value
	}
	return values
}

// appendName adds the name of a fact. Packages, of which there are hundreds, are one.
func appendName(names []string, name string) []string {
	if strings.HasPrefix(name, packageFact) {
		name = "other packages"
	}
	if slices.Contains(names, name) {
		return names
	}
	return append(names, name)
}

// add adds a difference, unless one before it says the same of its cause: the driver of the machine is that of the
// engine too.
func (c *Comparison) add(d Difference) {
	if d.Was == "" || d.Is == "" || !slices.ContainsFunc(c.Differs, func(o Difference) bool {
		return o.Was == d.Was && o.Is == d.Is
	}) {
		c.Differs = append(c.Differs, d)
	}
}

// steps adds how the facts of steps differ. What differs because an input does is not said again.
func (c *Comparison) steps(runs [2]Run, reasons func(pipeline.ID, pipeline.Facts, pipeline.Facts) []pipeline.Change) {
	for _, s := range runs[1].Steps {
		i := slices.IndexFunc(runs[0].Steps, func(o Step) bool { return o.ID == s.ID })
		if i < 0 || s.Facts == nil || runs[0].Steps[i].Facts == nil {
			continue
		}
		own := func(facts pipeline.Facts) pipeline.Facts {
			facts = maps.Clone(facts)
			maps.DeleteFunc(facts, func(name, _ string) bool { return strings.HasPrefix(name, "input ") })
			return facts
		}
		for _, change := range reasons(s.ID, own(runs[0].Steps[i].Facts), own(s.Facts)) {
			name := string(s.ID) + ": " + change.Fact
			if change.Fact == string(s.ID) {
				name = change.Fact
			}
			c.add(Difference{Area: Inputs, Fact: name, Was: change.Was, Is: change.Is})
		}
	}
}

// facts returns what a record says of its run.
func (r *Record) facts(run Run) []fact {
	var all []fact
	add := func(area Area, name, value string) {
		if value != "" {
			all = append(all, fact{area, name, value})
		}
	}
	s := Summarize(r)
	s.asked(add)
	add(Program, "dalirun", r.Program)
	r.machine(add)
	var t target.Target
	if r.Decode(TargetFile, &t) == nil {
		add(Machine, "lane", string(t.Lane))
		add(Machine, "GPU", t.GPUNames())
		add(Images, "release", t.Release.Tag)
		add(Images, "image source", string(t.Source))
		add(Asked, "weights", t.Weights.String())
		if r.refusedBy() == "" { // else it is as it was asked for, and the lane may have another
			add(Asked, "precision", string(t.Precision))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.Images)) {
		add(Images, strings.ReplaceAll(id, "-", " "), s.Images[id])
	}
	for _, line := range r.lines(LockFile) {
		if at := strings.LastIndexByte(line, ' '); strings.HasPrefix(line, packageFact) && at > 0 {
			add(Images, line[:at], line[at+1:])
		}
	}
	for _, step := range run.Steps {
		if s.Images[string(step.ID)] != "" || step.ID == "serve" || step.ID == "verify" { // containers, each another one
			continue
		}
		for _, output := range slices.Sorted(maps.Keys(step.Digests)) {
			add(Made, string(step.ID)+"/"+output, step.Digests[output])
		}
	}
	s.came(add)
	return all
}

// asked adds what was asked for.
func (s Summary) asked(add func(Area, string, string)) {
	add(Asked, "command", s.Command)
	for _, f := range s.Flags {
		if !slices.Contains(shownBy(), f.Flag) {
			add(Asked, "--"+f.Flag, cmp.Or(f.Value, `""`))
		}
	}
	for _, line := range s.Environment {
		name, value, _ := strings.Cut(line, "=")
		if name == "NO_COLOR" || name == "TERM" || strings.HasPrefix(name, target.EnvPrefix) { // the last are flags
			continue
		}
		add(Asked, name, cmp.Or(value, `""`))
	}
	add(Asked, "picture", prefixed("sha256:", s.Picture))
}

// came adds what the run came to.
func (s Summary) came(add func(Area, string, string)) {
	add(Came, "outcome", string(s.Outcome))
	if s.Cause != nil {
		add(Came, "cause", s.Cause.ID+" ("+string(s.Cause.Turn)+"): "+s.Cause.Text)
	}
	if s.Parity != nil {
		for _, comparison := range s.Parity.Comparisons {
			add(Came, string(comparison.Name), figuresText(comparison))
		}
	}
}

// packageFact begins the facts of a lock that are of packages in local images.
const packageFact = "package "

// shownBy are the flags that say how a run is shown and kept, of which nothing else depends.
func shownBy() []string {
	return []string{"format", "html", "junit", "progress", "record", "record-model", "runs-dir", "verbose"}
}

func prefixed(prefix, value string) string {
	if value == "" {
		return ""
	}
	return prefix + value
}

// figuresText is one comparison in a few words.
func figuresText(c parity.Comparison) string {
	verdict := "ok"
	if !c.OK {
		verdict = "off"
	}
	return fmt.Sprintf("%s (mean abs %.3g, max abs %.3g, cosine %.6f)", verdict, c.Figures.MeanAbs, c.Figures.MaxAbs,
		c.Figures.Cosine)
}

// machine adds what this host and its container engine said.
func (r *Record) machine(add func(Area, string, string)) {
	add(Machine, "system", strings.Trim(r.OS+"/"+r.Arch, "/"))
	var answers map[string]struct {
		Value json.RawMessage `json:"value"`
	}
	if r.Decode(AnswersFile, &answers) != nil {
		return
	}
	read := func(question string, value any) bool {
		answer, ok := answers[question]
		return ok && json.Unmarshal(answer.Value, value) == nil
	}
	var kernel string
	if read("host: kernel", &kernel) {
		add(Machine, "kernel", kernelVersion(kernel))
	}
	var engine container.Info
	if read("runtime: info", &engine) {
		add(Machine, "container engine", strings.TrimSpace(engine.Name+" "+engine.Version))
		add(Machine, "CPUs", strconv.Itoa(engine.CPUs))
	}
	var gpus host.GPUs
	if read("host: gpus", &gpus) {
		add(Machine, "driver", gpus.Driver)
		add(Machine, "CUDA of the driver", gpus.CUDA)
		var names []string
		for _, d := range gpus.Devices {
			names = append(names, d.Name)
		}
		add(Machine, "GPUs of the machine", strings.Join(names, ", "))
	}
}

// kernelVersion is the version in /proc/version: "Linux version 6.1.0-18-amd64 (…".
func kernelVersion(text string) string {
	const words = 3
	fields := strings.Fields(text)
	return strings.Join(fields[:min(words, len(fields))], " ")
}

// WriteText writes the differences for people, a line each, and then what is the same.
func (c Comparison) WriteText(to io.Writer) error {
	var b strings.Builder
	for _, d := range c.Differs {
		fmt.Fprintln(&b, printable.Line(d.String()))
	}
	if len(c.Differs) == 0 {
		fmt.Fprintln(&b, "nothing that both records have differs")
	}
	for _, list := range []struct {
		what  string
		names []string
	}{{"same", c.Same}, {"in one record alone", c.Lacking}} {
		if len(list.names) > 0 {
			fmt.Fprintf(&b, "%s: %s\n", list.what, printable.Line(strings.Join(list.names, ", ")))
		}
	}
	_, err := io.WriteString(to, b.String())
	return err
}
