package steps_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

func TestParseWeights(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	none := filepath.Join(dir, "none.pth")
	text := filepath.Join(dir, "text.pth")
	if err := os.WriteFile(text, []byte("no checkpoint"), 0o600); err != nil {
		t.Fatal(err)
	}
	for value, c := range map[string]struct {
		want      target.WeightsSource
		err, hint string
	}{
		"pretrained":        {target.WeightsSource{Kind: target.Pretrained}, "", ""},
		"auto":              {target.WeightsSource{Kind: target.AutoWeights}, "", ""},
		"random:7":          {target.WeightsSource{Kind: target.Random, Seed: 7}, "", ""},
		"random:-1":         {target.WeightsSource{}, `DALIRUN_WEIGHTS: weights: "-1" is not a seed, a whole number`, "as in random:0"},
		"random:4294967296": {target.WeightsSource{}, "DALIRUN_WEIGHTS: weights: ", "as in random:0"},
		"pretraind":         {target.WeightsSource{}, `DALIRUN_WEIGHTS: weights: "pretraind" is none of `, `did you mean "pretrained"?`},
		"xyzzyxyzzyxyzzy":   {target.WeightsSource{}, "DALIRUN_WEIGHTS: weights: ", "name a PyTorch state dict"},
		none:                {target.WeightsSource{}, "DALIRUN_WEIGHTS=" + none + ": no such file or directory", "name a PyTorch state dict"},
		dir:                 {target.WeightsSource{}, "DALIRUN_WEIGHTS=" + dir + ": it is not a file", "name a PyTorch state dict"},
		text:                {target.WeightsSource{}, "DALIRUN_WEIGHTS=" + text + ": ", "name a PyTorch state dict"},
	} {
		got, err := steps.ParseWeights(value, target.Settings{{Flag: "weights", Value: value, From: "DALIRUN_WEIGHTS"}})
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", value, diff)
		}
		fault, ok := errors.AsType[*pipeline.Fault](err)
		if ok != (c.err != "") || ok && (fault.Kind != pipeline.Usage || !strings.HasPrefix(err.Error(), c.err) || !strings.HasPrefix(fault.Hint, c.hint)) {
			t.Errorf("%s: %+v", value, err)
		}
	}
}
