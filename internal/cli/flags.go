package cli

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dalirun/dalirun/internal/config"
	"github.com/dalirun/dalirun/internal/flagvalue"
	"github.com/dalirun/dalirun/pipeline"
)

// fillFlags gives each flag that the command line does not name the value of its environment variable, else of the
// file, and refuses values that are empty, wherever they are from.
func fillFlags(cmd *cobra.Command, lookup func(string) (string, bool), file string) error {
	values, err := config.Read(cmd.Context(), file, flagNames(cmd.Root()), flagvalue.ServingKeys())
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
		if value, ok := lookup(config.Variable(f.Name)); ok && value != "" { // CI systems export empty variables
			errs = append(errs, set(cmd, f, value, config.Variable(f.Name)))
		} else if value, ok := values[f.Name]; ok {
			errs = append(errs, set(cmd, f, value.Text, value.From))
		} else if f.Name == config.Section {
			errs = append(errs, setServing(cmd, f, values))
		}
	})
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.Annotations[aliasOf] == nil && f.Annotations[mayBeEmpty] == nil && isEmpty(f.Value) {
			errs = append(errs, pipeline.Usagef("write a value, or leave it out; `"+cmd.CommandPath()+" --help` has the values",
				"%s: it has no value", settingOf(f).Origin()))
		}
	})
	return errors.Join(errs...)
}

// mayBeEmpty is the annotation of a flag for which an empty value means something.
const mayBeEmpty = "may be empty"

// isEmpty says whether a value, or one of several, is the empty text. The types of numbers and of a choice refuse the
// empty text themselves.
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
				errs = append(errs, pipeline.Usagef("drop one of them", "--%s and --%s are two names of one flag", name, f.Name))
				continue
			}
			errs = append(errs, flags.Set(name, f.Value.String()), flags.SetAnnotation(name, origin, []string{"--" + f.Name}))
		}
	})
	return errors.Join(errs...)
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

// setServing sets the flag from the map that the configuration may have of it. An error names the line of its key.
func setServing(cmd *cobra.Command, f *pflag.Flag, values map[string]config.Value) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if key, ok := strings.CutPrefix(name, config.Section+"."); ok {
			errs = append(errs, set(cmd, f, key+"="+values[name].Text, values[name].From))
		}
	}
	return errors.Join(errs...)
}

// invalid says where a value that a flag does not take was written, and what is allowed, which pflag's own types do not
// say.
func invalid(f *pflag.Flag, value string, err error) error {
	err = innermost(err)
	switch f.Value.Type() {
	case "bool":
		err = fmt.Errorf("%q is neither true nor false", value)
	case "duration":
		err = fmt.Errorf("%q is no duration, as in 90s or 5m", value)
	}
	return pipeline.Usagef("", "%s: %w", settingOf(f).Origin(), err)
}

func innermost(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// flagNames are the flags of all commands.
func flagNames(root *cobra.Command) []string {
	var names []string
	var commands []*cobra.Command
	for _, c := range root.Commands() {
		commands = append(append(commands, c), c.Commands()...)
	}
	for _, c := range commands {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && f.Name != "help" && !slices.Contains(names, f.Name) {
				names = append(names, f.Name)
			}
		})
	}
	slices.Sort(names)
	return names
}
