package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/agext/levenshtein"
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
	if err == nil {
		err = host.CheckOwn(path, writable)
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(file)
	}
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
		if d := levenshtein.Distance(strings.ToLower(word), k, nil); d < distance {
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
