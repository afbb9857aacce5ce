package target_test

import (
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/target"
)

func TestGPUNames(t *testing.T) {
	t.Parallel()
	for want, tt := range map[string]target.Target{
		"":                 {},
		"NVIDIA H100":      {Device: target.Device{Name: "NVIDIA H100"}, Chosen: make([]host.GPU, 1)},
		"2 × NVIDIA H100":  {Device: target.Device{Name: "NVIDIA H100"}, Chosen: make([]host.GPU, 2)},
		"2 × unix:///sock": {Device: target.Device{Location: "unix:///sock"}, Chosen: make([]host.GPU, 2)},
	} {
		if got := tt.GPUNames(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// A flag that is of no use without another one is told of without it alone.
func TestUnusedWithoutAnother(t *testing.T) {
	t.Parallel()
	interval := target.Setting{Flag: "interval", Value: "5s"}
	for name, tt := range map[string]struct {
		command  string
		settings target.Settings
		want     string
	}{
		"once":                  {"status", target.Settings{interval}, "--interval 5s is not used: status looks once; --watch looks again and again"},
		"again":                 {"status", target.Settings{interval, {Flag: "watch", Value: "true", Switch: true}}, ""},
		"once, and said so":     {"status", target.Settings{interval, {Flag: "watch", Value: "false"}}, "--interval 5s is not used"},
		"nothing":               {"status", nil, ""},
		"no open loop":          {"bench", target.Settings{{Flag: "max-in-flight", Value: "9"}}, "--max-in-flight 9 is not used"},
		"an open loop":          {"bench", target.Settings{{Flag: "max-in-flight", Value: "9"}, {Flag: "rate", Value: "20"}}, ""},
		"another command alone": {"setup", target.Settings{interval}, ""},
	} {
		warnings, err := target.Situation{Command: tt.command, Settings: tt.settings}.Unused()
		if got := strings.Join(warnings, "\n"); err != nil || !strings.HasPrefix(got, tt.want) || (got == "") != (tt.want == "") {
			t.Errorf("%s: %q, %v; want %q", name, got, err, tt.want)
		}
	}
}
