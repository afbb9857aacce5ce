package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/config"
	"github.com/dalirun/dalirun/pipeline"
)

func flags() []string { return []string{"accel", "force", "opt-batch", "serving"} }

// Keys are flags, each with one value, and where it stands; what is something else is told by its line.
func TestRead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want map[string]config.Value // From is the line
		err  string                  // without the name of the file
		hint string
	}{
		"nothing":           {"", nil, "", ""},
		"comments alone":    {"# none\n", nil, "", ""},
		"null":              {"~\n", nil, "", ""},
		"two keys":          {"accel: cpu\n\nopt-batch: 64\n", map[string]config.Value{"accel": {"cpu", ":1"}, "opt-batch": {"64", ":3"}}, "", ""},
		"an unknown key":    {"acel: cpu\n", nil, `:1: unknown key "acel"`, `did you mean "accel"?`},
		"a key like none":   {"xyzzy-and-more: 1\n", nil, `:1: unknown key "xyzzy-and-more"`, "keys are the flags that "},
		"a key, twice":      {"accel: cpu\naccel:\n", nil, `:2: key "accel" stands twice, first in line 1`, "keep one of them"},
		"a section":         {"serving:\n  dali-threads: 2\naccel: cpu\n", map[string]config.Value{"serving.dali-threads": {"2", ":2"}, "accel": {"cpu", ":3"}}, "", ""},
		"an empty section":  {"serving: {}\n", map[string]config.Value{}, "", ""},
		"a written section": {"serving: dali-threads=2\n", map[string]config.Value{"serving": {"dali-threads=2", ":1"}}, "", ""},
		"a null section":    {"serving:\naccel: cpu\n", nil, ":1: serving has no value", "write `serving: VALUE`"},
		"a flag in it":      {"serving:\n  accel: cpu\n", nil, `:2: unknown key "serving.accel"`, "the keys of serving are dali-threads, queue-delay"},
		"a misspelt one":    {"serving:\n  dali-thread: 2\n", nil, `:2: unknown key "serving.dali-thread"`, `did you mean "dali-threads"?`},
		"one of it, twice":  {"serving:\n  dali-threads: 2\n  dali-threads: 3\n", nil, `:3: key "serving.dali-threads" stands twice, first in line 2`, "keep one of them"},
		"it, twice":         {"serving: {}\nserving: {}\n", nil, `:2: key "serving" stands twice, first in line 1`, "keep one of them"},
		"one of it, bare":   {"dali-threads: 2\n", nil, `:1: unknown key "dali-threads"`, "keys are the flags that "},
		"one of it, joined": {"serving.dali-threads: 2\n", nil, `:1: unknown key "serving.dali-threads"`, "keys are the flags that "},
		"a map in it":       {"serving:\n  dali-threads:\n    a: b\n", nil, ":3: serving.dali-threads takes one value", "write `dali-threads: VALUE`"},
		"a section in it":   {"serving:\n  serving: {}\n", nil, `:2: unknown key "serving.serving"`, "the keys of serving are "},
		"a list":            {"force:\n- weights\n", nil, ":2: force takes one value", "write `force: VALUE`, and several"},
		"no value":          {"accel:\n", nil, ":1: accel has no value", "write `accel: VALUE`, or remove"},
		"a second document": {"accel: cpu\n---\naccel: gpu\n", nil, ":2: a second document begins, and one is read", "remove that line"},
		"no map":            {"- accel\n", nil, ":1: not a list of keys and values", "write one `key: value` a line"},
		"no YAML":           {"accel: cpu\nforce: [a\n", nil, ":2: it is no YAML: ", "write one `key: value` a line; a value"},
		"too much":          {strings.Repeat("# x\n", 5000), nil, " is larger than 16 KiB, too large for a configuration", "write one"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), config.File)
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := config.Read(t.Context(), file, flags(), []string{"dali-threads", "queue-delay"})
			if c.err == "" {
				for key, value := range got {
					got[key] = config.Value{Text: value.Text, From: strings.TrimPrefix(value.From, file)}
				}
				if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
					t.Errorf("%v (-want +got):\n%s", err, diff)
				}
				return
			}
			fault, ok := errors.AsType[*pipeline.Fault](err)
			if !ok || fault.Kind != pipeline.Usage || !strings.HasPrefix(fault.Error(), file+c.err) || !strings.HasPrefix(fault.Hint, c.hint) {
				t.Errorf("%+v", err)
			}
		})
	}
}

// A file that nobody wrote has no values; a folder of its name is none, and who stopped the reading is its reason.
func TestReadNoFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if got, err := config.Read(t.Context(), filepath.Join(dir, config.File), flags(), nil); got != nil || err != nil {
		t.Errorf("nothing there: %v, %v", got, err)
	}
	if _, err := config.Read(t.Context(), dir, flags(), nil); err == nil || err.Error() != "read the configuration "+dir+": it is a directory" {
		t.Errorf("a folder: %v", err)
	}
}

// A variable that is nearly one of ours is told of; an empty one, and one that belongs to the scripts of a checkout, is not.
func TestUnreadVariables(t *testing.T) {
	t.Parallel()
	environ := []string{
		"PATH=/bin", "DALIRUN_ACCEL=cpu", "DALIRUN_ACEL=cpu", "dalirun_accel=cpu", "DALI_RUN_OPT_BATCH=1", "DALIRUN_EMPTY=",
		"DALIRUN_HELP=1", "DALIRUN_PULL_SECONDS=1",
	}
	want := []string{
		`DALIRUN_ACEL is not read: no flag has that name; did you mean "DALIRUN_ACCEL"?`,
		"DALIRUN_HELP is not read: --help is no setting",
		`DALI_RUN_OPT_BATCH is not read: no flag has that name; did you mean "DALIRUN_OPT_BATCH"?`,
		`dalirun_accel is not read: no flag has that name; did you mean "DALIRUN_ACCEL"?`,
	}
	if diff := cmp.Diff(want, config.Unread(environ, config.File, flags())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A file that looks like the configuration is told of, but not a link to it.
func TestUnreadFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("dalirun.yml", []byte("accel: cpu\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := []string{"dalirun.yml is not read: the configuration is called dalirun.yaml"}
	if diff := cmp.Diff(want, config.Unread(nil, config.File, flags())); diff != "" {
		t.Errorf("alone (-want +got):\n%s", diff)
	}
	if err := errors.Join(os.WriteFile(config.File, nil, 0o600), os.Symlink(config.File, ".dalirun.yml")); err != nil {
		t.Fatal(err)
	}
	want = []string{"dalirun.yml is not read: dalirun.yaml is"}
	if diff := cmp.Diff(want, config.Unread(nil, config.File, flags())); diff != "" {
		t.Errorf("beside the configuration (-want +got):\n%s", diff)
	}
}
