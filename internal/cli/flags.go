package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/pipeline"
)

// configFile is read from the current folder, if it is there.
const configFile = "dalirun.yaml"

func envName(flag string) string {
	return target.EnvPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// fillFlags gives each flag that the command line does not name the value of its environment variable, else of the file, and refuses values
// that are empty, wherever they are from.
func fillFlags(cmd *cobra.Command, lookup func(string) (string, bool), file string) error {
	config, err := readConfig(cmd.Context(), file, cmd.Root())
	if err != nil {
		return err
	}
	if err := takeAliases(cmd.Flags()); err != nil {
		return err
	}
	var errs []error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed || f.Name == "help" || f.Annotations[aliasOf] != nil {
			return
		}
		if value, ok := lookup(envName(f.Name)); ok && value != "" { // CI systems export empty variables
			errs = append(errs, set(cmd, f, value, envName(f.Name)))
		} else if entry, ok := config[f.Name]; ok {
			errs = append(errs, set(cmd, f, entry.value, fmt.Sprintf("%s:%d", file, entry.line)))
		}
	})
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.Annotations[aliasOf] == nil && f.Annotations[mayBeEmpty] == nil && isEmpty(f.Value) {
			errs = append(errs, usagef("write a value, or leave it out; `"+cmd.CommandPath()+" --help` has the values", "%s: it has no value", settingOf(f).Origin()))
		}
	})
	return errors.Join(errs...)
}

// mayBeEmpty is the annotation of a flag for which an empty value means something.
const mayBeEmpty = "may be empty"

// isEmpty says whether a value, or one of several, is the empty text. What is a number or one of a few words refuses that itself.
func isEmpty(value pflag.Value) bool {
	if several, ok := value.(pflag.SliceValue); ok {
		list := several.GetSlice()
		return len(list) == 0 || slices.Contains(list, "")
	}
	return value.String() == ""
}

// aliasOf is the annotation of a flag that is another one by a name of somebody else's program.
const aliasOf = "alias of"

// addAlias adds a second name of a flag, which its help does not show.
func addAlias(flags *pflag.FlagSet, alias, name string) {
	second := *flags.Lookup(name)
	second.Name, second.Shorthand, second.Hidden = alias, "", true
	second.Annotations = map[string][]string{aliasOf: {name}}
	flags.AddFlag(&second) // the value is one
}

// takeAliases makes flags that were named by an alias named ones, and refuses both names of one.
func takeAliases(flags *pflag.FlagSet) error {
	var errs []error
	flags.Visit(func(f *pflag.Flag) {
		for _, name := range f.Annotations[aliasOf] {
			if flags.Lookup(name).Changed {
				errs = append(errs, usagef("drop one of them", "--%s and --%s are two names of one flag", name, f.Name))
				continue
			}
			errs = append(errs, flags.Set(name, f.Value.String()), flags.SetAnnotation(name, origin, []string{"--" + f.Name}))
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
		if strings.EqualFold(name, envName("help")) {
			texts = append(texts, name+" is not read: --help is no setting")
			continue
		}
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
	if err := cmd.Flags().SetAnnotation(f.Name, origin, []string{from}); err != nil {
		return err
	}
	if err := cmd.Flags().Set(f.Name, value); err != nil {
		return invalid(f, value, err)
	}
	return nil
}

// invalid says where a value that a flag does not take was written, and what is allowed, which pflag's own types do not say.
func invalid(f *pflag.Flag, value string, err error) error {
	err = cause(err)
	switch f.Value.Type() {
	case "bool":
		err = fmt.Errorf("%q is neither true nor false", value)
	case "duration":
		err = fmt.Errorf("%q is no duration, as in 90s or 5m", value)
	}
	return usagef("", "%s: %w", settingOf(f).Origin(), err)
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

// configEntry is the value of a key of the configuration, and the line that it stands in.
type configEntry struct {
	value string
	line  int
}

// readConfig reads a flat file of flag names and values. A key that is no flag of any command is an error.
func readConfig(ctx context.Context, file string, root *cobra.Command) (map[string]configEntry, error) {
	path, err := filepath.Abs(file)
	if err != nil {
		return nil, usagef("", "read the configuration: %w", err)
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil // nobody wrote one, wherever this is
	}
	if err := host.CheckOwn(path, writable); err != nil {
		return nil, unsafeFault(err, "the configuration "+path, "run dalirun in a folder of your own")
	}
	data, err := (&userfile.Reader{}).Read(ctx, file, maxConfig)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, userfile.ErrTooLong):
		return nil, usagef(configForm, "%s is larger than %s, too large for a configuration", file, bytesize.Format(maxConfig))
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("read the configuration %s: %w", file, err)
	case err != nil:
		return nil, usagef(configForm, "read the configuration %s: %w", file, err)
	}
	top, err := parseConfig(file, data)
	if top == nil {
		return nil, err
	}
	known := flagNames(root)
	config := map[string]configEntry{}
	for i := 0; i+1 < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		if !slices.Contains(known, key.Value) {
			return nil, usagef(cmp.Or(nearest(key.Value, known), "keys are the flags that `dalirun COMMAND --help` lists, without the dashes"),
				"%s:%d: unknown key %q", file, key.Line, key.Value)
		}
		if first, twice := config[key.Value]; twice {
			return nil, usagef("keep one of them", "%s:%d: key %q stands twice, first in line %d", file, key.Line, key.Value, first.line)
		}
		if value.Kind != yaml.ScalarNode {
			return nil, usagef("write `"+key.Value+": VALUE`, and several values as in `force: weights,reference`", "%s:%d: %s takes one value", file, value.Line, key.Value)
		}
		if value.Tag == "!!null" {
			return nil, usagef("write `"+key.Value+": VALUE`, or remove the line for the default", "%s:%d: %s has no value", file, key.Line, key.Value)
		}
		config[key.Value] = configEntry{value.Value, key.Line}
	}
	return config, nil
}

const (
	// maxConfig is the most bytes that a configuration has: there are some thirty keys.
	maxConfig = 16 << 10
	// configForm says what one is, as a hint.
	configForm = "write one `key: value` a line"
)

// parseConfig returns the keys and values of a configuration; nil where it has none.
func parseConfig(file string, data []byte) (*yaml.Node, error) {
	var doc, second yaml.Node
	documents := yaml.NewDecoder(bytes.NewReader(data))
	err := documents.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err == nil {
		switch err = documents.Decode(&second); {
		case errors.Is(err, io.EOF):
			err = nil
		case err == nil:
			return nil, usagef("remove that line, `---`", "%s:%d: a second document begins, and one is read", file, second.Line)
		}
	}
	if err != nil {
		return nil, usagef(configForm+"; a value with a character that means something in YAML stands in quotes, and no line begins with a tab",
			"%s:%d: it is no YAML: %s", file, faultyLine(data), yamlReason(err))
	}
	top := doc.Content[0]
	if top.Kind == yaml.ScalarNode && top.Tag == "!!null" {
		return nil, nil
	}
	if top.Kind != yaml.MappingNode {
		return nil, usagef(configForm, "%s:%d: not a list of keys and values", file, top.Line)
	}
	return top, nil
}

// faultyLine is the line of a text from which on it is no YAML. The parser names the line at which it gave up, often the last one, and not always that.
func faultyLine(data []byte) int {
	lines := bytes.SplitAfter(data, []byte("\n"))
	for n := len(lines) - 1; n > 0; n-- {
		if parses(bytes.Join(lines[:n], nil)) {
			return n + 1
		}
	}
	return 1
}

func parses(text []byte) bool {
	for documents := yaml.NewDecoder(bytes.NewReader(text)); ; {
		if err := documents.Decode(new(yaml.Node)); err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}

// yamlReason is what the parser says, without the line that it names.
func yamlReason(err error) string {
	return regexp.MustCompile(`^yaml: (line \d+: )?`).ReplaceAllString(err.Error(), "")
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
