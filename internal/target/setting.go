package target

import (
	"slices"
	"strings"
)

// Setting is a flag that the user set: on the command line, by an environment variable or in the configuration file.
type Setting struct {
	Flag  string `json:"flag"`
	Value string `json:"value"` // of a flag with several values, all as they are written
	// From is where the flag was set, if not by its own name on the command line: another name of the flag (--image), a
	// variable (DALIRUN_GPUS) or the place in a file (dalirun.yaml:3).
	From   string `json:"from,omitempty"`
	Switch bool   `json:"switch,omitempty"` // a flag that needs no value
}

// Nearness says how near to the command a flag was set. The nearer setting takes precedence.
type Nearness int

// The places of a setting, the farthest first.
const (
	InFile Nearness = iota + 1
	InEnvironment
	OnCommandLine
)

// EnvPrefix begins the environment variable of a flag: --opt-batch is DALIRUN_OPT_BATCH.
const EnvPrefix = "DALIRUN_"

// Nearness returns where the flag was set.
func (s Setting) Nearness() Nearness {
	switch {
	case s.From == "", strings.HasPrefix(s.From, "--"):
		return OnCommandLine
	case strings.HasPrefix(s.From, EnvPrefix):
		return InEnvironment
	default:
		return InFile
	}
}

// Origin names the flag and the place where it was set.
func (s Setting) Origin() string {
	switch {
	case s.From == "":
		return "--" + s.Flag
	case s.Nearness() == OnCommandLine:
		return s.From
	default:
		return s.From + ": " + s.Flag
	}
}

// String returns flag and value as they were written.
func (s Setting) String() string {
	switch s.Nearness() {
	case InEnvironment:
		return s.From + "=" + s.Value
	case InFile:
		return s.Flag + ": " + s.Value + " in " + s.From
	default:
		if s.Switch {
			return s.Origin()
		}
		return s.Origin() + " " + s.Value
	}
}

// Settings are all flags that were set, each once.
type Settings []Setting

// Find returns the setting of a flag, and whether it was set.
func (s Settings) Find(flag string) (Setting, bool) {
	i := slices.IndexFunc(s, func(setting Setting) bool { return setting.Flag == flag })
	if i < 0 {
		return Setting{Flag: flag}, false
	}
	return s[i], true
}

// Named reports whether a flag was set.
func (s Settings) Named(flag string) bool {
	_, named := s.Find(flag)
	return named
}

// Origin names a flag and the place where it was set; the flag alone if it was not.
func (s Settings) Origin(flag string) string {
	setting, _ := s.Find(flag)
	return setting.Origin()
}

// Written returns a flag with a value in the form in which it was set, or as on the command line if it was not.
func (s Settings) Written(flag, value string) string {
	setting, _ := s.Find(flag)
	setting.Value = value
	return setting.String()
}
