package host_test

import (
	"fmt"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/host"
)

// What the kernel said before the run is no news, and neither is what is of no GPU and no memory.
func TestKernelLog(t *testing.T) {
	t.Parallel()
	const up = 1000 * time.Second
	at := func(ago time.Duration) int64 { return (up - ago).Microseconds() }
	log := fmt.Sprintf("3,1,%d,-;NVRM: Xid (PCI:0000:06:00): 79, an old one\n SUBSYSTEM=pci\n6,2,%d,-;eth0: link is up\n", at(10*time.Minute), at(time.Minute)) +
		fmt.Sprintf("3,3,%d,c;NVRM: Xid (PCI:0000:06:00): 79, pid=1234, GPU has fallen off the bus.\n3,4,%d,-;Out of memory: Killed process 77 (python3)\nbroken;NVRM: no time\n", at(30*time.Second), at(time.Second))
	system := host.System{Root: fstest.MapFS{
		"dev/kmsg": {Data: []byte(log)}, "proc/uptime": {Data: []byte("1000.00 3000.00\n")},
	}}
	want := []string{"NVRM: Xid (PCI:0000:06:00): 79, pid=1234, GPU has fallen off the bus.", "Out of memory: Killed process 77 (python3)"}
	if diff := cmp.Diff(want, system.KernelLog(t.Context(), time.Now().Add(-2*time.Minute))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, root := range map[string]fstest.MapFS{
		"no log": {"proc/uptime": {Data: []byte("1000.00 1\n")}}, "no uptime": {"dev/kmsg": {Data: []byte(log)}},
		"no time": {"dev/kmsg": {Data: []byte(log)}, "proc/uptime": {Data: []byte("x")}},
	} {
		if got := (host.System{Root: root}).KernelLog(t.Context(), time.Now()); got != nil {
			t.Errorf("%s: %q", name, got)
		}
	}
	host.Here().KernelLog(t.Context(), time.Now()) // it returns
}
