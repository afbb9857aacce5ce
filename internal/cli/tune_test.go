package cli

import (
	"os"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/tune"
)

// What was found is written once it is something, and a variable that goes before it is told of.
func TestWriteFound(t *testing.T) {
	t.Chdir(t.TempDir())
	fromFile := target.Settings{{Flag: "serving", Value: "queue-delay=1ms", From: "dalirun.yaml:1"}}
	fromVariable := target.Settings{{Flag: "serving", Value: "queue-delay=1ms", From: "DALIRUN_SERVING"}}
	nothing := &tune.Result{Serving: map[string]string{"queue-delay": "1ms"}}
	if warning, err := writeFound(t.Context(), nil, fromVariable, nothing); warning != "" || err != nil || nothing.Written != "" {
		t.Errorf("of nothing: %q, %v, %+v", warning, err, nothing)
	}
	if _, err := os.Stat("dalirun.yaml"); err == nil {
		t.Error("a file was made for nothing")
	}
	found := func() *tune.Result {
		return &tune.Result{
			Serving: map[string]string{"queue-delay": "1ms", "dali-threads": "1"}, Outcome: tune.Outcome{Best: tune.Setting{"dali-threads": "1"}},
		}
	}
	for _, settings := range []target.Settings{fromFile, fromVariable} {
		r := found()
		warning, err := writeFound(t.Context(), []string{"serving"}, settings, r)
		if told := strings.HasPrefix(warning, "DALIRUN_SERVING goes before dalirun.yaml"); err != nil || r.Written != "dalirun.yaml" || told != (settings[0].From == "DALIRUN_SERVING") {
			t.Errorf("from %s: %q, %v, %+v", settings[0].From, warning, err, r)
		}
		if text, err := os.ReadFile("dalirun.yaml"); err != nil || !strings.Contains(string(text), "  dali-threads: 1\n") {
			t.Errorf("%q, %v", text, err)
		}
	}
	if err := os.WriteFile("dalirun.yaml", []byte("serving: [\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := found()
	if _, err := writeFound(t.Context(), []string{"serving"}, nil, r); err == nil || r.Written != "" {
		t.Errorf("into a damaged file: %v, %+v", err, r)
	}
}
