package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/pipeline"
)

const eventsPage = "../../docs/events.md"

// examples are those of docs/events.md.
func examples() []timedEvent {
	return []timedEvent{
		{0, "", pipeline.RunStarted{
			Steps: []pipeline.ID{"weights", "export-onnx", "serve", "verify"},
			Facts: map[string]string{"lane": "cpu", "images": "local", "weights": "random:1"},
		}},
		{0, "export-onnx", pipeline.Decided{Verdict: pipeline.Verdict{Kind: pipeline.WillRun, Because: []pipeline.Change{
			{Fact: "argv", Was: "--opset 13", Is: "--opset 17"},
		}}}},
		{0, "export-onnx", pipeline.Fingerprinted{Fingerprint: "6f0c", Facts: pipeline.Facts{"argv": "--opset 17", "input weights/weights.pth": "sha256:11ad"}}},
		{0, "export-onnx", pipeline.Started{}},
		{time.Second, "export-onnx", pipeline.Line{Text: "exported 25557032 parameters"}},
		{time.Second, "server-image", pipeline.Progress{Text: "pulling", Current: 120_000_000, Total: 1_200_000_000, Unit: "B"}},
		{time.Second, "weights", pipeline.Warning{Text: "the weights are random: labels mean nothing"}},
		{3 * time.Second, "serve", pipeline.Result{Name: "time_to_ready", Value: 1.9}},
		{4200 * time.Millisecond, "build-engine", pipeline.Ended{State: pipeline.Failed, Elapsed: 4200 * time.Millisecond, Err: errors.New("trtexec exited with status 1")}},
		{5 * time.Second, "", pipeline.RunEnded{Elapsed: 5 * time.Second}},
	}
}

var (
	blocks = regexp.MustCompile("(?s)```json\n(.*?)\n```")
	titles = regexp.MustCompile(`(?m)^## (.+)$`)
)

// The page has one example of each kind of event that the pipeline can tell of, as it tells it.
func TestEventsPage(t *testing.T) {
	t.Parallel()
	want := map[string]string{}
	for _, e := range examples() {
		b, err := json.MarshalIndent(e.event(), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		var short bytes.Buffer
		if err := json.Compact(&short, b); err != nil {
			t.Fatal(err)
		}
		want[kindOf(t, short.Bytes())] = string(b)
	}
	page, err := os.ReadFile(eventsPage)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		page = blocks.ReplaceAllFunc(page, func(b []byte) []byte {
			return []byte("```json\n" + want[kindOf(t, blocks.FindSubmatch(b)[1])] + "\n```")
		})
		if err := os.WriteFile(eventsPage, page, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]string{}
	for _, m := range blocks.FindAllSubmatch(page, -1) {
		got[kindOf(t, m[1])] = string(m[1])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the examples of %s (-want +got); -update writes them:\n%s", eventsPage, diff)
	}
	var named []string
	for _, m := range titles.FindAllSubmatch(page, -1) {
		named = append(named, string(m[1]))
	}
	slices.Sort(named)
	kinds := payloadKinds(t)
	if diff := cmp.Diff(kinds, named); diff != "" {
		t.Errorf("the sections of %s (-kinds in the code +sections):\n%s", eventsPage, diff)
	}
	if diff := cmp.Diff(kinds, slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("the examples of %s (-kinds in the code +examples):\n%s", eventsPage, diff)
	}
}

// kindOf decodes an event strictly and returns its kind.
func kindOf(t *testing.T, b []byte) string {
	t.Helper()
	var e struct {
		V    int             `json:"v"`
		Run  string          `json:"run"`
		Time time.Time       `json:"time"`
		Step string          `json:"step"`
		Kind string          `json:"kind"`
		Data json.RawMessage `json:"data"`
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	if !*update && (e.V != pipeline.EventVersion || e.Run == "" || e.Time.IsZero() || len(e.Data) == 0) {
		t.Errorf("not a whole event: %s", b)
	}
	return e.Kind
}

// payloadKinds reads from the source what the kind methods of package pipeline return, sorted.
func payloadKinds(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../pipeline/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv == nil || f.Name.Name != "kind" || len(f.Body.List) != 1 {
				continue
			}
			ret, ok := f.Body.List[0].(*ast.ReturnStmt)
			if !ok {
				t.Fatalf("a kind method that does more than return: %s", name)
			}
			lit, ok := ret.Results[0].(*ast.BasicLit)
			if !ok {
				t.Fatalf("a kind method that returns no literal: %s", name)
			}
			kind, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			kinds = append(kinds, kind)
		}
	}
	slices.Sort(kinds)
	return kinds
}
