package target

import (
	"slices"
	"strings"
)

// Setting is a flag that was named, wherever: on the command line, by a variable or in the configuration.
type Setting struct {
	Flag  string `json:"flag"`
	Value string `json:"value"` // of several all, as they are written
	// From is where it was written if not as the flag itself: another name of it (--image), a variable
	// (DALIRUN_GPUS) or the place in a file (dalirun.yaml:3).
	From   string `json:"from,omitempty"`
	Switch bool   `json:"switch,omitempty"` // a flag that needs no value
}

// Nearness says how near to the command a setting was written. The nearer one goes before the other.
type Nearness int

// The places of a setting, the farthest first.
const (
	InFile Nearness = iota + 1
	InEnvironment
	OnCommandLine
)

// EnvPrefix begins the environment variable of a flag: --opt-batch is DALIRUN_OPT_BATCH.
const EnvPrefix = "DALIRUN_"

// Nearness returns where it was written.
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

// Origin names the flag by where its value was written.
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

// Settings are all that were named, by flag.
type Settings []Setting

// Find returns the setting of a flag, if it was named.
func (s Settings) Find(flag string) (Setting, bool) {
	i := slices.IndexFunc(s, func(one Setting) bool { return one.Flag == flag })
	if i < 0 {
		return Setting{Flag: flag}, false
	}
	return s[i], true
}

// Named says whether a flag was named.
func (s Settings) Named(flag string) bool {
	_, named := s.Find(flag)
	return named
}

// Origin names a flag by where its value was written, or else as the flag.
func (s Settings) Origin(flag string) string {
	setting, _ := s.Find(flag)
	return setting.Origin()
}

// Written returns a flag with its value as it was written, or value as that of one that was not named.
func (s Settings) Written(flag, value string) string {
	setting, _ := s.Find(flag)
	setting.Value = value
	return setting.String()
}
