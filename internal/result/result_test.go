package result_test

import (
	"encoding/json"
	"math"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/result"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/triton"
)

// Golden: other programs read these forms, in events, reports and the answers of classify.
func TestForms(t *testing.T) {
	t.Parallel()
	port := func(n uint16) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), n) }
	inf := float32(math.Inf(1))
	for name, c := range map[string]struct {
		result pipeline.Result
		want   string
	}{
		"top": {
			result.Top.New(result.Classes([]triton.Scored{
				{Class: triton.Class{Index: 967, Value: 12.3, Label: "espresso"}, Probability: 0.84},
				{Class: triton.Class{Index: 3, Value: -inf}},
			})),
			`[{"index":967,"label":"espresso","score":12.3,"probability":0.84},{"index":3,"score":null,"probability":0}]`,
		},
		"server": {
			result.Serving.New(result.Server{
				Container: "abc", Name: "dalirun-r1-serve", GRPC: port(8001), HTTP: port(8000), Metrics: port(8002),
				Models: []string{"dali"}, Image: "sha256:1", Repository: "/cache/models",
			}),
			`{"container":"abc","name":"dalirun-r1-serve","grpc":"127.0.0.1:8001","http":"127.0.0.1:8000","metrics":"127.0.0.1:8002",` +
				`"models":["dali"],"image":"sha256:1","repository":"/cache/models"}`,
		},
		"time_to_ready": {result.TimeToReady.New(1.9), `1.9`},
	} {
		got, err := json.Marshal(c.result.Value)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, string(got)); diff != "" || c.result.Name != name {
			t.Errorf("%s, named %s (-want +got):\n%s", name, c.result.Name, diff)
		}
	}
}

func TestValue(t *testing.T) {
	t.Parallel()
	if got, err := result.TimeToReady.Value(result.TimeToReady.New(1.9)); err != nil || got != 1.9 {
		t.Errorf("got %v, %v", got, err)
	}
	_, err := result.Top.Value(pipeline.Result{Name: "top", Value: "espresso"})
	if want := "it holds a string, not a []result.Class"; err == nil || err.Error() != want {
		t.Errorf("error %v; want %q", err, want)
	}
}

// TestPage: docs/events.md has a row for each result, in the same order, and names each member of those that have their form here.
func TestPage(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("result.go")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, m := range regexp.MustCompile(`(?m)^\t\w+ +Name\[.+\] += "(\w+)"`).FindAllSubmatch(source, -1) {
		want = append(want, string(m[1]))
	}
	page, err := os.ReadFile("../../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "\n## step.result\n")
	section, _, _ := strings.Cut(rest, "\n## ")
	rows := map[string]string{}
	var got []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (.+) \\|$").FindAllStringSubmatch(section, -1) {
		if m[1] != "name" {
			got, rows[m[1]] = append(got, m[1]), m[2]
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || len(want) == 0 {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	for name, form := range map[string]reflect.Type{"top": reflect.TypeFor[result.Class](), "server": reflect.TypeFor[result.Server]()} {
		for f := range form.Fields() {
			member, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !strings.Contains(rows[name], "`"+member+"`") {
				t.Errorf("the row of %s does not name %s", name, member)
			}
		}
	}
}
