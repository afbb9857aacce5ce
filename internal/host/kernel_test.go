package host_test

import (
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/host"
)

// What the kernel said before the run is no news, whatever its clock says, and neither is what is of no GPU and no memory.
func TestKernelLog(t *testing.T) {
	t.Parallel()
	const before = "3,41,99000000,-;NVRM: Xid (PCI:0000:06:00): 79, an old one\n SUBSYSTEM=pci\n6,42,1,-;eth0: link is up\n"
	const during = "3,43,2,c;NVRM: Xid (PCI:0000:06:00): 79, pid=1234, GPU has fallen off the bus.\n6,44,3,-;eth0: link is up\n" +
		"3,45,4,-;Out of memory: Killed process 77 (python3)\nbroken;NVRM: no number\n3,x,5,-;NVRM: no number\n"
	root := fstest.MapFS{"dev/kmsg": {Data: []byte(before)}}
	system := host.System{Root: root}
	mark := system.KernelMark(t.Context())
	if got := system.KernelLog(t.Context(), mark); got != nil {
		t.Errorf("nothing was said since: %q", got)
	}
	root["dev/kmsg"] = &fstest.MapFile{Data: []byte(before + during)}
	want := []string{"NVRM: Xid (PCI:0000:06:00): 79, pid=1234, GPU has fallen off the bus.", "Out of memory: Killed process 77 (python3)"}
	if diff := cmp.Diff(want, system.KernelLog(t.Context(), mark)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	silent := host.System{Root: fstest.MapFS{}}
	if got := system.KernelLog(t.Context(), silent.KernelMark(t.Context())); got != nil {
		t.Errorf("from where is not known: %q", got)
	}
	host.Here().KernelLog(t.Context(), host.Here().KernelMark(t.Context())) // it returns
}
