package target_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/target"
)

// What was asked of a run starts its server again elsewhere: wherever it was written, with absolute paths, and without what
// the run had no use for.
func TestServeArguments(t *testing.T) {
	t.Parallel()
	settings := target.Settings{
		{Flag: "accel", Value: "cpu", From: "DALIRUN_ACCEL"},
		{Flag: "detach", Value: "true", Switch: true},
		{Flag: "force", Value: "weights"},
		{Flag: "gpus", Value: "all", From: "dalirun.yaml:1"},
		{Flag: "image", Value: "cat.jpg"},
		{Flag: "weights", Value: "my.pth"},
		{Flag: "workspace", Value: "w"},
	}
	file := target.Request{Command: "serve", Settings: settings, Weights: target.WeightsSource{Kind: target.File, Path: "/p/my.pth"}}
	named := file
	named.Weights = target.WeightsSource{Kind: target.Random}
	locked, unlocked := named, named
	locked.Settings, unlocked.Settings = nil, target.Settings{{Flag: "frozen", Value: "true", Switch: true}, {Flag: "lock", Value: "none"}}
	locked.Lock.File = "/p/dalirun.lock"
	elsewhere := locked
	elsewhere.Settings = target.Settings{{Flag: "lock", Value: "dalirun.lock"}}
	cpu := target.Target{Lane: target.CPU, Source: target.Local}
	for name, c := range map[string]struct {
		request target.Request
		target  target.Target
		picture string
		want    []string
	}{
		"files":                {file, cpu, "/p/cat.jpg", []string{"--accel=cpu", "--detach", "--image=/p/cat.jpg", "--weights=/p/my.pth"}},
		"no picture":           {file, cpu, "", []string{"--accel=cpu", "--detach", "--weights=/p/my.pth"}},
		"on a GPU":             {named, target.Target{Lane: target.GPU, Source: target.NGC}, "", []string{"--accel=cpu", "--detach", "--gpus=all", "--weights=my.pth"}},
		"a lock that is here":  {locked, cpu, "", []string{"--lock=/p/dalirun.lock"}},
		"a lock that is named": {elsewhere, cpu, "", []string{"--lock=/p/dalirun.lock"}},
		"without the lock":     {unlocked, cpu, "", []string{"--frozen", "--lock=none"}},
		"nobody asked":         {target.Request{Command: "serve"}, cpu, "", nil},
	} {
		if diff := cmp.Diff(c.want, c.request.ServeArguments(c.target, c.picture)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
