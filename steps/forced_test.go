package steps_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// The steps that can be forced are those whose results are stored, and "all" is each of them and no step.
func TestForcedIDs(t *testing.T) {
	t.Parallel()
	stored := map[pipeline.ID]bool{}
	for _, lane := range []target.Lane{target.GPU, target.CPU} {
		for _, s := range steps.For(target.Target{Lane: lane, Source: target.NGC}, steps.Tools{}, steps.IDVerify) {
			if _, builds := s.(pipeline.Builder); builds {
				stored[s.ID()] = true
			}
		}
	}
	every := slices.Sorted(maps.Keys(steps.Forced{"all"}.IDs()))
	for id := range stored {
		if !slices.Contains(every, id) {
			t.Errorf("%s cannot be forced", id)
		}
	}
	for name, c := range map[string]struct {
		force steps.Forced
		want  []pipeline.ID
	}{
		"none":        {nil, nil},
		"one":         {steps.Forced{"export-onnx"}, []pipeline.ID{"export-onnx"}},
		"all and one": {steps.Forced{"export-onnx", "all"}, every},
	} {
		if diff := cmp.Diff(c.want, slices.Sorted(maps.Keys(c.force.IDs()))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// A step that there is not is told with those that there are; one of the gpu lane excludes the cpu lane.
func TestForcedCheck(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		force     steps.Forced
		accel     string
		err, hint string
	}{
		"those of any lane": {steps.Forced{"weights", "all"}, "cpu", "", ""},
		"the gpu lane's":    {steps.Forced{"build-engine"}, "auto", "", ""},
		"misspelt":          {steps.Forced{"weight-s"}, "auto", `--force: there is no step "weight-s"`, `did you mean "weights"?; the steps are weights, `},
		"no step":           {steps.Forced{"xyzzyxyzzy"}, "auto", `--force: there is no step "xyzzyxyzzy"`, "the steps are weights, "},
		"excluded":          {steps.Forced{"cast-onnx"}, "cpu", "--force cast-onnx and --accel cpu exclude each other", "drop one of them"},
	} {
		request := target.Request{Command: "e2e", Accel: c.accel, Settings: target.Settings{
			{Flag: "force", Value: strings.Join(c.force, ",")}, {Flag: "accel", Value: c.accel},
		}}
		err := c.force.Check(request)
		if c.err == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		fault, ok := errors.AsType[*pipeline.Fault](err)
		if !ok || fault.Kind != pipeline.Usage || !strings.HasPrefix(err.Error(), c.err) || !strings.HasPrefix(fault.Hint, c.hint) {
			t.Errorf("%s: %+v", name, err)
		}
	}
}

// What a run has no step for is told, by what the run is of.
func TestForcedUnused(t *testing.T) {
	t.Parallel()
	force := steps.Forced{"reference", "weights", "all"}
	for command, want := range map[string][]string{
		"setup": {"--force reference is not used: this run has no such step; `dalirun plan` lists those of e2e"},
		"serve": {"--force reference is not used: this run has no such step; `dalirun plan` lists those of e2e"},
		"e2e":   nil,
	} {
		request := target.Request{Command: command, Settings: target.Settings{{Flag: "force", Value: "reference,weights,all"}}}
		got, err := force.Unused(request, target.Target{Lane: target.GPU, Source: target.NGC})
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", command, err, diff)
		}
	}
}
