package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/lock"
	"github.com/dalirun/dalirun/internal/parity"
	"github.com/dalirun/dalirun/internal/trtexec"
)

// The text of a pull request says what changes and what both locks came to; what there is much of is folded, and what
// nobody measured is left out.
func TestPullRequest(t *testing.T) {
	t.Parallel()
	digest := func(c string) string { return "sha256:" + strings.Repeat(c, 64) }
	run := func(release string, cosine, build, ready float64, bytes int64) LockRun {
		return LockRun{
			Lock: lock.Lock{Source: lock.NGC, Release: release}, BuildSeconds: build, RepositoryBytes: bytes + 4000,
			Report: Report{
				Program: "1.2.3", Verdict: Passed, Lane: "gpu", ImageSource: "ngc", Release: release, Precision: "fp16",
				TimeToReadySeconds: ready, Engine: &trtexec.Engine{Bytes: bytes},
				Parity: &parity.Report{Comparisons: []parity.Comparison{{
					Name: parity.Model, OK: true, Figures: parity.Figures{Cosine: cosine}, Bound: parity.Bound{MinCosine: 0.999},
				}}},
			},
		}
	}
	gone := run("25.03", 0, 0, 0, 0)
	gone.Report, gone.RepositoryBytes, gone.Error = Report{}, 0, "the registry | has lost it"
	gone.Doubts = []string{"the run is not that of ci.lock: package server linux/amd64 a: 1 → 2"}
	var packages []lock.Change
	for name := range strings.SplitSeq("abcdefghijk", "") {
		packages = append(packages, lock.Change{Fact: "package server linux/amd64 " + name, Was: "1", Is: "2"})
	}
	moved := []lock.Change{
		{Fact: "image server digest", Was: digest("1"), Is: digest("2")},
		{Fact: "image server linux/arm64", Was: digest("3")},
		{Fact: "release", Was: "25.03", Is: "25.04"},
	}
	for name, proof := range map[string]LockProof{
		"release": {
			File: "dalirun.lock", Changes: moved, Was: run("25.03", 0.99999, 61.2, 4.25, 51<<20), Is: run("25.04", 0.99998, 58, 4.5, 50<<20),
		},
		"packages": {File: "ci.lock", Changes: packages, Was: gone, Is: run("25.03", 1, 58, 4.5, 50<<20)},
	} {
		var text strings.Builder
		if err := proof.WritePullRequest(&text); err != nil {
			t.Fatal(err)
		}
		golden := filepath.Join("testdata", "pull-request-"+name+".md")
		if *update {
			if err := os.WriteFile(golden, []byte(text.String()), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), text.String()); diff != "" {
			t.Errorf("%s; -update writes it anew (-golden +now):\n%s", name, diff)
		}
	}
}
