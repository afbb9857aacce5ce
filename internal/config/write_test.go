package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/config"
)

// What is written means the old values with the new ones, and nothing else of a file changes; what cannot be so is
// refused, and left as it is.
func TestWrite(t *testing.T) {
	t.Parallel()
	const refused = ""
	values := map[string]string{"dali-threads": "2", "queue-delay": "1ms"}
	for name, c := range map[string]struct{ text, want string }{
		"nothing":            {"", "serving:\n  dali-threads: 2\n  queue-delay: 1ms\n"},
		"comments alone":     {"# mine\n", "# mine\nserving:\n  dali-threads: 2\n  queue-delay: 1ms\n"},
		"no last line break": {"accel: cpu # here", "accel: cpu # here\nserving:\n  dali-threads: 2\n  queue-delay: 1ms\n"},
		"a section": {
			"# a\n\naccel:   cpu # b\nserving: # c\n\n    # d\n    dali-threads:   16   # e\n\n# f\nopt-batch: '8'\n",
			"# a\n\naccel:   cpu # b\nserving: # c\n\n    # d\n    dali-threads:   2   # e\n    queue-delay: 1ms\n\n# f\nopt-batch: '8'\n",
		},
		"both, one the same": {"serving:\n  queue-delay: \"2ms\" # a\n  dali-threads: 2", "serving:\n  queue-delay: 1ms # a\n  dali-threads: 2\n"},
		"line breaks of old": {"accel: cpu\r\n", "accel: cpu\r\nserving:\n  dali-threads: 2\n  queue-delay: 1ms\n"},
		"a written section":  {"serving: dali-threads=2\n", refused},
		"braces":             {"serving: {dali-threads: 4}\n", refused},
		"no keys":            {"serving: {}\n", refused},
		"braces around all":  {"{accel: cpu}\n", refused},
		"an end":             {"accel: cpu\n...\n", refused},
		"another spelling":   {"serving:\n  dali-threads: \"\\x34\"\n", refused},
		"folded":             {"serving:\n  dali-threads: >-\n    4\n", refused},
		"no configuration":   {"acel: cpu\n", refused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), config.File)
			if c.text != "" {
				if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := config.Write(t.Context(), file, flags(), []string{"dali-threads", "queue-delay"}, values)
			want := c.want
			if c.want == refused {
				want = c.text
				if err == nil {
					t.Error("it was not refused")
				}
			} else if err != nil {
				t.Error(err)
			}
			got, err := os.ReadFile(file)
			if diff := cmp.Diff(want, string(got)); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
			if about, err := os.Stat(file); err != nil || c.text != "" && about.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", about, err)
			}
			if files, err := os.ReadDir(filepath.Dir(file)); err != nil || len(files) != 1 {
				t.Errorf("%v, %v", files, err)
			}
		})
	}
}

// A link to a configuration stays one.
func TestWriteThroughLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real.yaml"), filepath.Join(dir, config.File)
	if err := os.WriteFile(real, []byte("accel: cpu\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real.yaml", link); err != nil {
		t.Fatal(err)
	}
	if err := config.Write(t.Context(), link, flags(), []string{"dali-threads"}, map[string]string{"dali-threads": "2"}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(real)
	if about, lerr := os.Lstat(link); err != nil || lerr != nil || about.Mode()&os.ModeSymlink == 0 || !strings.HasSuffix(string(got), "serving:\n  dali-threads: 2\n") {
		t.Errorf("%v, %v, %s", err, lerr, got)
	}
}
