package config

import (
	"bytes"
	"errors"
	"io"
	"regexp"

	"go.yaml.in/yaml/v3"

	"github.com/dalirun/dalirun/pipeline"
)

// parse returns the keys and values of a configuration; nil where it has none.
func parse(file string, data []byte) (*yaml.Node, error) {
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
			return nil, pipeline.Usagef("remove that line, `---`",
				"%s:%d: a second document begins, and one is read", file, second.Line)
		}
	}
	if err != nil {
		return nil, pipeline.Usagef(form+"; a value with a character that means something in YAML stands in quotes, "+
			"and no line begins with a tab",
			"%s:%d: it is no YAML: %s", file, faultyLine(data), yamlReason(err))
	}
	top := doc.Content[0]
	if top.Kind == yaml.ScalarNode && top.Tag == "!!null" {
		return nil, nil
	}
	if top.Kind != yaml.MappingNode {
		return nil, pipeline.Usagef(form, "%s:%d: not a list of keys and values", file, top.Line)
	}
	return top, nil
}

// faultyLine is the line of a text from which on it is no YAML. The parser names the line at which it gave up, often
// the last one, and not always that.
func faultyLine(data []byte) int {
	lines := bytes.SplitAfter(data, []byte("\n"))
	for n := len(lines) - 1; n > 0; n-- {
		if parses(bytes.Join(lines[:n], nil)) {
			return n + 1
		}
	}
	return 1
}

// parses says whether a text is YAML.
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
