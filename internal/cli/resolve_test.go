package cli

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/pipeline"
)

func TestForced(t *testing.T) {
	t.Parallel()
	var every []pipeline.ID
	for _, id := range stepIDs() {
		every = append(every, pipeline.ID(id))
	}
	slices.Sort(every)
	for name, c := range map[string]struct {
		force []string
		want  []pipeline.ID
	}{
		"none":           {nil, nil},
		"one":            {[]string{"export-onnx"}, []pipeline.ID{"export-onnx"}},
		"all is no step": {[]string{"all"}, every},
		"all and one":    {[]string{"export-onnx", "all"}, every},
	} {
		w := wishes{force: c.force}
		if diff := cmp.Diff(c.want, slices.Sorted(maps.Keys(w.forced()))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
