package remedy_test

import (
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/remedy"
)

// What nvidia-smi said decides what to do about a GPU that is not there.
func TestNoGPU(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reason              string
		notInstalled, hangs bool
		want                string
	}{
		"no driver":         {reason: "nvidia-smi is not on PATH", notInstalled: true, want: "ubuntu-drivers install"},
		"it hangs":          {reason: "nvidia-smi gave no answer", hangs: true, want: "dmesg | grep -E 'NVRM|Xid'"},
		"updated":           {reason: "nvidia-smi says: Failed to initialize NVML: Driver/library version mismatch", want: "rmmod nvidia_uvm"},
		"module not loaded": {reason: "nvidia-smi says: it couldn't communicate with the NVIDIA driver", want: "modprobe nvidia"},
		"no devices":        {reason: "nvidia-smi says: No devices were found", want: "lspci -d 10de:"},
		"elsewhere":         {reason: "the container engine lists no CDI device", want: "on that host: "},
		"words of its own":  {reason: "nvidia-smi says: hello", want: "look at `nvidia-smi`"},
	} {
		if got := remedy.NoGPU(c.reason, c.notInstalled, c.hangs); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
