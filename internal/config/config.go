// Package config reads what a user sets beside the command line: the file dalirun.yaml and the variables DALIRUN_*. It
// knows flags by their names alone.
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

// Read reads a flat file of flag names and values; a file that is not there has none. A key that is none of flags,
// those of all commands, is an error.
func Read(ctx context.Context, file string, flags []string) (map[string]Value, error) {
	data, err := readFile(ctx, file)
	if err != nil || data == nil {
		return nil, err
	}
	top, err := parse(file, data)
	if top == nil {
		return nil, err
	}
	values, lines := map[string]Value{}, map[string]int{}
	for i := 0; i+1 < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		if err := checkEntry(file, key, value, flags, lines[key.Value]); err != nil {
			return nil, err
		}
		values[key.Value] = Value{value.Value, fmt.Sprintf("%s:%d", file, key.Line)}
		lines[key.Value] = key.Line
	}
	return values, nil
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

// checkEntry refuses a key that is no flag, one that stood in the line first already (0: in none), and what is not one
// value.
func checkEntry(file string, key, value *yaml.Node, flags []string, first int) error {
	const keys = "keys are the flags that `dalirun COMMAND --help` lists, without the dashes"
	switch {
	case !slices.Contains(flags, key.Value):
		return pipeline.Usagef(cmp.Or(spelling.Nearest(key.Value, flags), keys),
			"%s:%d: unknown key %q", file, key.Line, key.Value)
	case first > 0:
		return pipeline.Usagef("keep one of them",
			"%s:%d: key %q stands twice, first in line %d", file, key.Line, key.Value, first)
	case value.Kind != yaml.ScalarNode:
		return pipeline.Usagef("write `"+key.Value+": VALUE`, and several values as in `force: weights,reference`",
			"%s:%d: %s takes one value", file, value.Line, key.Value)
	case value.Tag == "!!null":
		return pipeline.Usagef("write `"+key.Value+": VALUE`, or remove the line for the default",
			"%s:%d: %s has no value", file, key.Line, key.Value)
	default:
		return nil
	}
}
