package release_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/release"
)

var update = flag.Bool("update", false, "write the tables of docs/gpu.md anew")

// TestDocumentedReleases checks that the tables of docs/gpu.md are this package's; with -update it writes them.
func TestDocumentedReleases(t *testing.T) {
	t.Parallel()
	const page = "../../docs/gpu.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, mark := range []string{"`?`\nmarks a figure that no source confirms; it never decides alone.", "`*` marks one that no page of NVIDIA's about the server image has, but others"} {
		if !bytes.Contains(text, []byte(mark)) {
			t.Errorf("%s does not say %q", page, mark)
		}
	}
	got := text
	for name, table := range map[string]string{"fits": fits(), "releases": releases()} {
		if got, err = replaceSection(got, name, table); err != nil {
			t.Fatalf("%s: %v", page, err)
		}
	}
	if bytes.Equal(got, text) {
		return
	}
	if !*update {
		t.Errorf("%s differs from the table of releases; run `go test ./internal/release -run Documented -update` (-page +table):\n%s",
			page, cmp.Diff(string(text), string(got)))
		return
	}
	if err := os.WriteFile(page, got, 0o644); err != nil {
		t.Fatal(err)
	}
}

// replaceSection puts text between the lines that mark the section of a name.
func replaceSection(page []byte, name, text string) ([]byte, error) {
	begin := fmt.Appendf(nil, "<!-- %s: written by `go test ./internal/release -run Documented -update` -->\n", name)
	end := fmt.Appendf(nil, "<!-- end of %s -->\n", name)
	before, rest, found := bytes.Cut(page, begin)
	_, after, ended := bytes.Cut(rest, end)
	if !found || !ended {
		return nil, fmt.Errorf("there are no lines %sand %s", begin, end)
	}
	return slices.Concat(before, begin, []byte(text), end, after), nil
}

// fits has a row for each run of releases with the same demands, newest first.
func fits() string {
	same := func(a, b release.Release) bool {
		return a.MinDriver == b.MinDriver && a.MinCompute == b.MinCompute && major(a.TensorRT) == major(b.TensorRT)
	}
	var out strings.Builder
	out.WriteString(row("releases", "driver branch, at least", "compute capability, at least", "TensorRT", "CUDA") + "|---|---|---|---|---|\n")
	for all := release.All(); len(all) > 0; {
		last := all[len(all)-1]
		first := len(all) - 1
		for first > 0 && same(all[first-1], last) {
			first--
		}
		run := all[first:]
		tags := run[0].Tag
		if len(run) > 1 {
			tags += " – " + last.Tag
		}
		compute := last.MinCompute
		if i := slices.IndexFunc(run, func(r release.Release) bool { return r.Unconfirmed.Contains(release.MinCompute) }); i >= 0 {
			compute = doubtful(run[i], release.MinCompute, compute)
		}
		out.WriteString(row(tags, strconv.Itoa(last.MinDriver), compute, major(last.TensorRT), major(last.CUDA)))
		all = all[:first]
	}
	return out.String()
}

// releases has a row for each release, newest first.
func releases() string {
	var out strings.Builder
	out.WriteString(row("release", "Triton", "TensorRT", "CUDA", "DALI", "driver in the notes", "on data center GPUs also") + "|---|---|---|---|---|---|---|\n")
	for _, r := range slices.Backward(release.All()) {
		notes := ""
		if r.NotesDriver > 0 {
			notes = strconv.Itoa(r.NotesDriver)
		}
		out.WriteString(row(
			r.Tag, doubtful(r, release.Triton, r.Triton), doubtful(r, release.TensorRT, r.TensorRT), doubtful(r, release.CUDA, r.CUDA),
			doubtful(r, release.DALI, r.DALI), doubtful(r, release.NotesDriver, notes), strings.Join(r.DataCenterDrivers, ", "),
		))
	}
	return out.String()
}

// row is a line of a table. An empty cell is a figure that is not known.
func row(cells ...string) string {
	var out strings.Builder
	for _, cell := range cells {
		out.WriteString("|")
		if cell != "" {
			out.WriteString(" " + cell)
		}
		out.WriteString(" ")
	}
	return out.String() + "|\n"
}

// doubtful marks a figure that no source confirms, or only others.
func doubtful(r release.Release, figure release.Figures, text string) string {
	switch {
	case text != "" && r.Unconfirmed.Contains(figure):
		return text + " ?"
	case text != "" && r.Indirect.Contains(figure):
		return text + " *"
	default:
		return text
	}
}

func major(version string) string {
	first, _, _ := strings.Cut(version, ".")
	return first
}
