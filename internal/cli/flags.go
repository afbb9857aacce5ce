package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/pipeline"
)

// configFile is read from the current folder, if it is there.
const configFile = "dalirun.yaml"

// envPrefix begins the environment variable of a flag: --opt-batch is DALIRUN_OPT_BATCH.
const envPrefix = "DALIRUN_"

func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// fillFlags gives each flag that the command line does not name the value of its environment variable, else of the file.
func fillFlags(cmd *cobra.Command, lookup func(string) (string, bool), file string) error {
	config, err := readConfig(file, cmd.Root())
	if err != nil {
		return err
	}
	var errs []error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed || f.Name == "help" {
			return
		}
		if value, ok := lookup(envName(f.Name)); ok && value != "" { // CI systems export empty variables
			errs = append(errs, set(cmd, f, value, envName(f.Name)))
		} else if value, ok := config[f.Name]; ok {
			errs = append(errs, set(cmd, f, value, file))
		}
	})
	return errors.Join(errs...)
}

// unread are warnings of settings that look like some of ours and are none: variables with our prefix, or nearly so, that are no flag's, and files whose
// names only resemble that of the configuration.
func unread(root *cobra.Command, environ []string, file string) []string {
	var texts []string
	for _, other := range []string{"dalirun.yml", "." + file, ".dalirun.yml", "dalirun.json", "dalirun.toml", "Dalirun.yaml", "Dalirun.yml"} {
		about, err := os.Stat(other)
		if err != nil || !about.Mode().IsRegular() {
			continue
		}
		read, err := os.Stat(file)
		switch {
		case err != nil:
			texts = append(texts, other+" is not read: the configuration is called "+file)
		case !os.SameFile(about, read): // a link, or a file system that knows no capitals
			texts = append(texts, other+" is not read: "+file+" is")
		}
	}
	var known []string
	for _, flag := range flagNames(root) {
		known = append(known, envName(flag))
	}
	slices.Sort(environ)
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		if !regexp.MustCompile("(?i)^DALI_?RUN_").MatchString(name) || value == "" || slices.Contains(known, name) || slices.Contains(scriptVariables(), name) {
			continue
		}
		text := name + " is not read: no flag has that name"
		if near := nearest(name, known); near != "" {
			text += "; " + near
		}
		texts = append(texts, text)
	}
	return texts
}

// scriptVariables are those that the scripts of a checkout read, beside which dalirun runs.
func scriptVariables() []string {
	return []string{"DALIRUN_DEBIAN_MIRROR", "DALIRUN_ENGINE_START_SECONDS", "DALIRUN_PULL_SECONDS", "DALIRUN_SCRIPT_ROOT"}
}

func set(cmd *cobra.Command, f *pflag.Flag, value, from string) error {
	if err := cmd.Flags().Set(f.Name, value); err != nil {
		// pflag's own words name the flag; the user wrote it elsewhere.
		return usagef("", "%s: %s: %w", from, f.Name, cause(err))
	}
	return cmd.Flags().SetAnnotation(f.Name, origin, []string{from})
}

func cause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// readConfig reads a flat file of flag names and values. A key that is no flag of any command is an error.
func readConfig(file string, root *cobra.Command) (map[string]string, error) {
	path, err := filepath.Abs(file)
	if err != nil {
		return nil, usagef("", "read the configuration: %w", err)
	}
	if err := host.CheckOwn(path, writable); err != nil {
		return nil, pipeline.Faultf(pipeline.Environment, "run dalirun in a folder of your own, or remove the file", "the configuration %s is not safe: %w", path, err)
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, usagef("", "read the configuration: %w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, usagef("", "%s: %w", file, err)
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		return nil, usagef("write one `key: value` a line", "%s:%d: not a list of keys and values", file, top.Line)
	}
	known := flagNames(root)
	config := map[string]string{}
	for i := 0; i+1 < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		if !slices.Contains(known, key.Value) {
			return nil, usagef(nearest(key.Value, known), "%s:%d: unknown key %q", file, key.Line, key.Value)
		}
		if _, twice := config[key.Value]; twice {
			return nil, usagef("", "%s:%d: key %q stands twice", file, key.Line, key.Value)
		}
		if value.Kind != yaml.ScalarNode {
			return nil, usagef("", "%s:%d: %s takes one value", file, value.Line, key.Value)
		}
		config[key.Value] = value.Value
	}
	return config, nil
}

func flagNames(root *cobra.Command) []string {
	var names []string
	for _, c := range root.Commands() {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && f.Name != "help" && !slices.Contains(names, f.Name) {
				names = append(names, f.Name)
			}
		})
	}
	slices.Sort(names)
	return names
}

// nearest suggests the known word that word was perhaps meant to be.
func nearest(word string, known []string) string {
	best, distance := "", len(word)/3+2
	for _, k := range known {
		if d := levenshtein.Distance(strings.ToLower(word), strings.ToLower(k), nil); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", best)
}

func usagef(hint, format string, args ...any) error {
	return pipeline.Faultf(pipeline.Usage, hint, format, args...)
}

// choice is a flag with a few values.
type choice struct {
	value   string
	allowed []string
}

// String returns the value.
func (c *choice) String() string { return c.value }

// Type names the values in the help.
func (c *choice) Type() string { return strings.Join(c.allowed, "|") }

// Set takes one of the allowed values.
func (c *choice) Set(s string) error {
	if !slices.Contains(c.allowed, s) {
		hint := nearest(s, c.allowed)
		if hint != "" {
			hint = "; " + hint
		}
		return fmt.Errorf("%q is none of %s%s", s, strings.Join(c.allowed, ", "), hint)
	}
	c.value = s
	return nil
}

// number is a flag with a range.
type number struct{ value, low, high int }

// String returns the value.
func (n *number) String() string { return strconv.Itoa(n.value) }

// Type names the range in the help.
func (n *number) Type() string { return fmt.Sprintf("%d..%d", n.low, n.high) }

// Set takes a whole number in the range.
func (n *number) Set(s string) error {
	var v int
	if _, err := fmt.Sscanf(s+"\n", "%d\n", &v); err != nil {
		return fmt.Errorf("%q is not a whole number from %d to %d", s, n.low, n.high)
	}
	if v < n.low || v > n.high {
		return fmt.Errorf("%d is out of range; the nearest is %d (%d to %d)", v, min(max(v, n.low), n.high), n.low, n.high)
	}
	n.value = v
	return nil
}

// memorySize is a flag with a number of bytes in a range, as in 8g.
type memorySize struct{ value, low, high int64 }

// String returns the value as it is written.
func (m *memorySize) String() string { return writtenBytes(m.value) }

// Type names the range in the help.
func (m *memorySize) Type() string { return writtenBytes(m.low) + ".." + writtenBytes(m.high) }

// Set takes a size in the range, in the units of docker run --memory.
func (m *memorySize) Set(s string) error {
	v, err := units.RAMInBytes(s)
	if err != nil {
		return fmt.Errorf("%q is no size, as in 8g", s)
	}
	if v < m.low || v > m.high {
		return fmt.Errorf("%s is out of range; the nearest is %s (%s to %s)", s, writtenBytes(min(max(v, m.low), m.high)), writtenBytes(m.low), writtenBytes(m.high))
	}
	m.value = v
	return nil
}

// writtenBytes is n in the largest unit that shows it whole.
func writtenBytes(n int64) string {
	for _, unit := range []struct {
		bytes  int64
		letter string
	}{{units.GiB, "g"}, {units.MiB, "m"}, {units.KiB, "k"}} {
		if n%unit.bytes == 0 {
			return fmt.Sprintf("%d%s", n/unit.bytes, unit.letter)
		}
	}
	return fmt.Sprintf("%db", n)
}
