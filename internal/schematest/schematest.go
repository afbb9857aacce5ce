// Package schematest lets tests hold JSON against its schema in docs/schemas, and the schema against Go's types.
package schematest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"
)

// Words are types of strings, each with all of its values.
type Words map[reflect.Type]*jsonschema.Schema

// Add adds a type with its values.
func Add[S ~string](w Words, values ...S) {
	s := &jsonschema.Schema{Type: "string"}
	for _, v := range values {
		s.Enum = append(s.Enum, string(v))
	}
	w[reflect.TypeFor[S]()] = s
}

// Check demands that the schema at path is that of T, or writes it if update is set, and that the example is valid by
// it. Objects may have members that this version does not know, and lists are always there.
func Check[T any](t *testing.T, path, title string, words Words, example []byte, update bool) {
	t.Helper()
	schema, err := jsonschema.For[T](&jsonschema.ForOptions{TypeSchemas: words})
	if err != nil {
		t.Fatal(err)
	}
	schema.Schema, schema.Title = "https://json-schema.org/draft/2020-12/schema", title
	open(schema)
	text, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	if update {
		if err := os.WriteFile(path, text, 0o644); err != nil { //nolint:gosec // a document
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(kept), string(text)); diff != "" {
		t.Errorf("%s (-kept +made); go test -update writes it:\n%s", path, diff)
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	var value any
	if err := json.Unmarshal(example, &value); err != nil {
		t.Fatal(err)
	}
	if err := resolved.Validate(value); err != nil {
		t.Errorf("%s: %v", filepath.Base(path), err)
	}
	if resolved.Validate(map[string]any{}) == nil {
		t.Errorf("%s: an empty object is valid", filepath.Base(path))
	}
}

// open lets objects have members that this version does not know, and has lists always be there.
func open(s *jsonschema.Schema) {
	if s == nil {
		return
	}
	if len(s.Properties) > 0 {
		s.AdditionalProperties = nil
	}
	if slices.Contains(s.Types, "array") { // a list of none is written as one
		s.Type, s.Types = "array", nil
	}
	open(s.Items)
	open(s.AdditionalProperties)
	for _, property := range s.Properties {
		open(property)
	}
}
