package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/dalirun/dalirun/internal/fsync"
	"github.com/dalirun/dalirun/pipeline"
)

// Block is the map of [Section] as a file has it, with these values by key.
func Block(values map[string]string) string {
	var b strings.Builder
	b.WriteString(Section + ":\n")
	for _, key := range slices.Sorted(maps.Keys(values)) {
		b.WriteString("  " + key + ": " + values[key] + "\n")
	}
	return b.String()
}

// Write sets values of [Section] in a file, which it makes if it is not there. All else stays as it is, byte by byte,
// comments too. Where that cannot be, as with a map in braces, it changes nothing and returns an error; so it does if
// what it would write did not mean the old values with the new ones. The other arguments are those of [Read].
func Write(ctx context.Context, file string, flags, section []string, values map[string]string) error {
	old, err := Read(ctx, file, flags, section)
	if err != nil {
		return err
	}
	data, err := readFile(ctx, file)
	if err != nil {
		return err
	}
	edited, err := edit(file, data, values)
	if err != nil {
		return err
	}
	wanted := texts(old)
	for key, value := range values {
		wanted[Section+"."+key] = value
	}
	top, err := parse(file, edited)
	r := reader{file: file, values: map[string]Value{}}
	if err == nil && top != nil {
		err = r.read("", top, flags, section)
	}
	if err != nil || !maps.Equal(wanted, texts(r.values)) {
		return byHand(file, 1, values)
	}
	return replace(file, edited)
}

func texts(values map[string]Value) map[string]string {
	all := map[string]string{}
	for key, value := range values {
		all[key] = value.Text
	}
	return all
}

// byHand is the error for a file that cannot be changed without another form of it.
func byHand(file string, line int, values map[string]string) error {
	return pipeline.Usagef("write it yourself:\n"+strings.TrimSuffix(Block(values), "\n"),
		"%s:%d: %s cannot be put in without changing the form of the file", file, line, Section)
}

// edit returns a text with values in its section.
func edit(file string, data []byte, values map[string]string) ([]byte, error) {
	top, err := parse(file, data)
	if err != nil {
		return nil, err
	}
	entries, line := sectionOf(top)
	if line == 0 {
		if len(data) > 0 && !bytes.HasSuffix(data, []byte("\n")) {
			data = append(slices.Clip(data), '\n')
		}
		return append(slices.Clip(data), Block(values)...), nil
	}
	if entries == nil || entries.Style&yaml.FlowStyle != 0 || len(entries.Content) == 0 {
		return nil, byHand(file, line, values)
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	left := maps.Clone(values)
	for i := 0; i+1 < len(entries.Content); i += 2 {
		key, value := entries.Content[i].Value, entries.Content[i+1]
		now, ok := left[key]
		delete(left, key)
		if !ok || now == value.Value {
			continue
		}
		at := &lines[value.Line-1]
		before, after := (*at)[:value.Column-1], (*at)[value.Column-1:]
		rest, found := cutScalar(after, value.Value)
		if !found {
			return nil, byHand(file, value.Line, values)
		}
		*at = slices.Concat(before, []byte(now), rest)
	}
	last := entries.Content[len(entries.Content)-1].Line
	if !bytes.HasSuffix(lines[last-1], []byte("\n")) {
		lines[last-1] = append(slices.Clip(lines[last-1]), '\n')
	}
	indent := strings.Repeat(" ", entries.Content[0].Column-1)
	var added []byte
	for _, key := range slices.Sorted(maps.Keys(left)) {
		added = append(added, indent+key+": "+left[key]+"\n"...)
	}
	return bytes.Join(slices.Insert(lines, last, added), nil), nil
}

// cutScalar returns what is behind a value at the beginning of a text, plain or in quotes.
func cutScalar(text []byte, value string) (rest []byte, found bool) {
	for _, quote := range []string{"", `"`, "'"} {
		if rest, found = bytes.CutPrefix(text, []byte(quote+value+quote)); found {
			return rest, true
		}
	}
	return nil, false
}

// sectionOf returns the map of the section and the line of its key: 0 if there is none. The map is nil if it is another
// value.
func sectionOf(top *yaml.Node) (entries *yaml.Node, line int) {
	if top == nil {
		return nil, 0
	}
	for i := 0; i+1 < len(top.Content); i += 2 {
		if key, value := top.Content[i], top.Content[i+1]; key.Value == Section {
			if value.Kind != yaml.MappingNode {
				value = nil
			}
			return value, key.Line
		}
	}
	return nil, 0
}

// replace writes a file whole, or not at all. A link stays one, and so do the permissions.
func replace(file string, data []byte) error {
	path, mode := file, fs.FileMode(0o644)
	if target, err := filepath.EvalSymlinks(file); err == nil {
		path = target
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write the configuration %s: %w", file, err)
	}
	if about, err := os.Stat(path); err == nil {
		mode = about.Mode().Perm()
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err == nil {
		err = errors.Join(f.Chmod(mode), fsync.Replace(path, f, data))
	}
	if err != nil {
		return fmt.Errorf("write the configuration %s: %w", file, err)
	}
	return nil
}
