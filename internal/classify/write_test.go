package classify_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/classify"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/result"
)

// records are one with an answer and one with an error.
func records() []classify.Record {
	return []classify.Record{
		{
			Image: "cat.jpg", Model: model, Milliseconds: 12.25,
			Classes: []result.Class{{Index: 281, Label: "tabby\ncat", Score: 9.5, Probability: 0.75}, {Index: 3, Score: 0.001, Probability: 0.25}},
			Source:  classify.Source{Server: "127.0.0.1:8001", Warnings: []string{"labels mean nothing"}},
		},
		{Image: "-", Model: model, Error: "it is\nno picture", ErrorClass: "usage", Hint: "name another"},
	}
}

func written(t *testing.T, format classify.Format, all ...classify.Record) string {
	t.Helper()
	var out bytes.Buffer
	w := classify.NewWriter(format, &out)
	for _, r := range all {
		before := out.Len()
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
		if r.Error == "" && out.Len() == before {
			t.Errorf("%s: the record waits for the next one", format)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// Each format has what it promises; without a record there is the empty form of it.
func TestWriter(t *testing.T) {
	t.Parallel()
	const header = "image,rank,index,label,probability,score,milliseconds,model,error,error_class,hint\n"
	for format, want := range map[classify.Format]struct{ all, none string }{
		classify.Text: {"cat.jpg  (12.2 ms)\n   75.0 %   281  tabby cat\n   25.0 %     3  \n", ""},
		classify.JSONLines: {
			`{"image":"cat.jpg","model":"ensemble","milliseconds":12.25,"classes":[` +
				`{"index":281,"label":"tabby\ncat","score":9.5,"probability":0.75},{"index":3,"score":0.001,"probability":0.25}],` +
				`"server":"127.0.0.1:8001","warnings":["labels mean nothing"]}` + "\n" +
				`{"image":"-","model":"ensemble","error":"it is\nno picture","error_class":"usage","hint":"name another"}` + "\n", "",
		},
		classify.CSV: {
			header + "cat.jpg,1,281,tabby cat,0.75,9.5,12.25,ensemble,,,\ncat.jpg,2,3,,0.25,0.001,12.25,ensemble,,,\n" +
				"-,,,,,,,ensemble,it is no picture,usage,name another\n", header,
		},
	} {
		if diff := cmp.Diff(want.all, written(t, format, records()...)); diff != "" {
			t.Errorf("%s: %s", format, diff)
		}
		if got := written(t, format); got != want.none {
			t.Errorf("%s of no record: %q", format, got)
		}
	}
	var list []classify.Record
	if err := json.Unmarshal([]byte(written(t, classify.JSON, records()...)), &list); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(records(), list); diff != "" {
		t.Error(diff)
	}
	if got := written(t, classify.JSON); got != "[]\n" {
		t.Errorf("no record: %q", got)
	}
	var withSource []classify.Format
	for _, f := range classify.Formats() {
		if f.HasSource() != strings.Contains(written(t, f, records()...), "labels mean nothing") {
			t.Errorf("%s: its records tell of the server: %v", f, !f.HasSource())
		}
		if f.HasSource() {
			withSource = append(withSource, f)
		}
	}
	if len(withSource) != 2 || classify.Formats()[0] != classify.Text {
		t.Errorf("%q of %q tell of the server", withSource, classify.Formats())
	}
}

// A figure that is infinite is none in a spreadsheet, and none has an exponent.
func TestCSVFigures(t *testing.T) {
	t.Parallel()
	r := classify.Record{Image: "a", Classes: []result.Class{
		{Score: result.Score(math.Inf(1)), Probability: 1}, {Score: -1e-9, Probability: 0},
	}}
	rows, err := csv.NewReader(strings.NewReader(written(t, classify.CSV, r))).ReadAll()
	if err != nil || len(rows) != 3 || rows[1][5] != "" || rows[2][5] != "-0.000000001" || rows[2][4] != "0" {
		t.Errorf("%q, %v", rows, err)
	}
}

// Names that are not in UTF-8 stay different ones, whichever form they are written in, and JSON has their bytes.
func TestNamesOfBytes(t *testing.T) {
	t.Parallel()
	names := []string{"b\xe4r.jpg", "b\xf6r.jpg", "b\xe4\xe4r.jpg", "b\ufffdr.jpg", "bär.jpg", "b\\xe4r.jpg", "b\nr.jpg"}
	for format, read := range map[classify.Format]func(string) (shown, exact []string){
		classify.JSON: readList,
		classify.JSONLines: func(text string) ([]string, []string) {
			return readList("[" + strings.Join(strings.Split(strings.TrimSpace(text), "\n"), ",") + "]")
		},
		classify.CSV: func(text string) (shown, _ []string) {
			rows, _ := csv.NewReader(strings.NewReader(text)).ReadAll()
			for _, row := range rows[1:] {
				shown = append(shown, row[0])
			}
			return shown, nil
		},
	} {
		var all []classify.Record
		for _, name := range names {
			all = append(all, classify.Record{Image: name, Error: "none"})
		}
		shown, exact := read(written(t, format, all...))
		if want := append([]string{`"b\xe4r.jpg"`, `"b\xf6r.jpg"`, `"b\xe4\xe4r.jpg"`}, names[3:]...); !slices.Equal(shown, want) {
			t.Errorf("%s: the names are %q", format, shown)
		}
		if format != classify.CSV && !slices.Equal(exact, names) {
			t.Errorf("%s: the bytes are %q", format, exact)
		}
		if again := all[0].Image; again != names[0] {
			t.Errorf("%s: the record was changed to %q", format, again)
		}
	}
}

// readList returns the names in JSON as they are shown, and as they are.
func readList(text string) (shown, exact []string) {
	var list []struct {
		Image string `json:"image"`
		Bytes []byte `json:"image_base64"`
	}
	if json.Unmarshal([]byte(text), &list) != nil {
		return nil, nil
	}
	for _, r := range list {
		shown = append(shown, r.Image)
		if r.Bytes == nil {
			r.Bytes = []byte(r.Image)
		}
		exact = append(exact, string(r.Bytes))
	}
	return shown, exact
}

// A disk that is full is the error of the record that met it.
func TestWriterFails(t *testing.T) {
	t.Parallel()
	for _, format := range classify.Formats() {
		for after := range 2 {
			w := classify.NewWriter(format, &full{after: after})
			err := errors.Join(w.Write(records()[0]), w.Write(records()[1]), w.Write(records()[0]), w.Close())
			if !errors.Is(err, errFull) {
				t.Errorf("%s, full after %d writes: %v", format, after, err)
			}
		}
	}
}

var errFull = errors.New("no space left on device")

// full is a disk that has room for so many writes.
type full struct{ after int }

func (f *full) Write(text []byte) (int, error) {
	if f.after--; f.after < 0 {
		return 0, errFull
	}
	return len(text), nil
}

// People are told what the workspace's server serves, as far as it is known, and nothing of another one.
func TestSourceLines(t *testing.T) {
	t.Parallel()
	for want, s := range map[string]classify.Source{
		"": {Server: "127.0.0.1:8001"},
		"gpu lane, ngc images 25.03, fp16, weights pretrained": {
			Served: owner.Served{Lane: "gpu", Source: "ngc", Release: "25.03", Precision: "fp16", Weights: "pretrained"},
		},
		"cpu lane, local images, fp32, weights random:7": {
			Served: owner.Served{Lane: "cpu", Source: "local", Precision: "fp32", Weights: "random:7"},
		},
	} {
		if got := strings.Join(s.Lines(), "\n"); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
