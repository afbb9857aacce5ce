// Package config reads what a user sets beside the command line: the file dalirun.yaml and the variables DALIRUN_*. It
// knows flags, and the keys below `serving:`, by their names alone.
package config

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/folders"
	"github.com/dalirun/dalirun/internal/spelling"
	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/pipeline"
)

// File is read from the current folder, if it is there.
const File = "dalirun.yaml"

const (
	// maxBytes is the most that a configuration has: there are some thirty keys.
	maxBytes = 16 << 10
	// form says what one is, as a hint.
	form = "write one `key: value` a line"
)

// Value is the value of a key of the configuration, and where it stands.
type Value struct {
	Text string
	From string // dalirun.yaml:3
}

// Section is the flag whose values have keys of their own, which the file may have as a map.
const Section = "serving"

// Read reads a file of flag names and values; a file that is not there has none. Values in a map of [Section] have the
// names Section.KEY. A key that is none of flags, those of all commands, or of section is an error.
func Read(ctx context.Context, file string, flags, section []string) (map[string]Value, error) {
	data, err := readFile(ctx, file)
	if err != nil || data == nil {
		return nil, err
	}
	top, err := parse(file, data)
	if top == nil {
		return nil, err
	}
	r := reader{file: file, values: map[string]Value{}}
	err = r.read("", top, flags, section)
	return r.values, err
}

// reader collects the values of a file.
type reader struct {
	file   string
	values map[string]Value
}

// read takes the entries of a map, whose names get a prefix. A map is the value of Section alone, and has the keys of
// section.
func (r *reader) read(prefix string, entries *yaml.Node, known, section []string) error {
	lines := map[string]int{}
	for i := 0; i+1 < len(entries.Content); i += 2 {
		key, value := entries.Content[i], entries.Content[i+1]
		inner := prefix+key.Value == Section && value.Kind == yaml.MappingNode
		if err := r.checkEntry(prefix, key, value, known, lines[key.Value], inner); err != nil {
			return err
		}
		lines[key.Value] = key.Line
		if inner {
			if err := r.read(Section+".", value, section, nil); err != nil {
				return err
			}
			continue
		}
		r.values[prefix+key.Value] = Value{value.Value, fmt.Sprintf("%s:%d", r.file, key.Line)}
	}
	return nil
}

// readFile returns nil where nobody wrote a configuration.
func readFile(ctx context.Context, file string) ([]byte, error) {
	path, err := filepath.Abs(file)
	if err != nil {
		return nil, pipeline.Usagef("", "read the configuration: %w", err)
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil // wherever this is
	}
	if err := folders.CheckOwn(path, "the configuration "+path, "run dalirun in a folder of your own"); err != nil {
		return nil, err
	}
	data, err := (&userfile.Reader{}).Read(ctx, file, maxBytes)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, userfile.ErrTooLong):
		return nil, pipeline.Usagef(form,
			"%s is larger than %s, too large for a configuration", file, bytesize.Format(maxBytes))
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("read the configuration %s: %w", file, err)
	case err != nil:
		return nil, pipeline.Usagef(form, "read the configuration %s: %w", file, err)
	}
	return data, nil
}

// checkEntry refuses an unknown key, a key that the line first has already (0 if no line has), and a value that is not
// a single one, unless it is the map of Section.
func (r *reader) checkEntry(prefix string, key, value *yaml.Node, known []string, first int, inner bool) error {
	name := prefix + key.Value
	keys := "keys are the flags that `dalirun COMMAND --help` lists, without the dashes"
	if prefix != "" {
		keys = "the keys of " + Section + " are " + strings.Join(known, ", ")
	}
	switch {
	case !slices.Contains(known, key.Value):
		return pipeline.Usagef(cmp.Or(spelling.Nearest(key.Value, known), keys),
			"%s:%d: unknown key %q", r.file, key.Line, name)
	case first > 0:
		return pipeline.Usagef("keep one of them",
			"%s:%d: key %q stands twice, first in line %d", r.file, key.Line, name, first)
	case inner:
		return nil
	case value.Kind != yaml.ScalarNode:
		return pipeline.Usagef("write `"+key.Value+": VALUE`, and several values as in `force: weights,reference`",
			"%s:%d: %s takes one value", r.file, value.Line, name)
	case value.Tag == "!!null":
		return pipeline.Usagef("write `"+key.Value+": VALUE`, or remove the line for the default",
			"%s:%d: %s has no value", r.file, key.Line, name)
	default:
		return nil
	}
}
