package cli

import (
	"cmp"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/config"
	"github.com/dalirun/dalirun/internal/flagvalue"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/target"
)

// The table of defaults has each key, in the order of the help, and the values that the H100 of its figures gets; the map beside it is one
// that is read.
func TestServingIsDocumented(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join(docsDir, "performance.md"))
	if err != nil {
		t.Fatal(err)
	}
	h100 := target.Target{
		Lane: target.GPU, Chosen: []host.GPU{{MemoryMiB: 81559, FreeMiB: 81000}}, Precision: "fp16", OptBatch: 64, MaxBatch: 256,
	}
	usual := target.DecideServing(target.Serving{}, h100, 16)
	values := flagvalue.ServingMap(usual)
	var keys []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| ([^|]*) \\|").FindAllStringSubmatch(string(data), -1) {
		key, says := row[1], row[2]
		keys = append(keys, key)
		want := values[key]
		switch key {
		case "queue-delay": // which is none, as where nobody says anything
			want = cmp.Or(want, "0s")
		case "preferred-batch": // of the request
			want = "`--opt-batch`"
		case "queue-limit", "inflight-limit":
			want = "none"
		case "pinned-pool":
			want = "the same"
		}
		if !strings.Contains(says, want) {
			t.Errorf("%s is %s, and the page says %q", key, want, says)
		}
	}
	if diff := gocmp.Diff(flagvalue.ServingKeys(), keys); diff != "" {
		t.Errorf("the rows (-keys +page):\n%s", diff)
	}
	example := regexp.MustCompile("(?s)```\n(serving:.*?)```").FindStringSubmatch(string(data))
	if example == nil {
		t.Fatal("the page has no example")
	}
	set := asked(t, "e2e", nil, nil, example[1])
	if got := set.Lookup(config.Section).Value.String(); got != "dali-instances=6,queue-delay=500µs,picture-size=1920x1080,cuda-pool=2g" {
		t.Errorf("the example asks for %s", got)
	}
}
