package host_test

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"path"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/dalirun/dalirun/internal/host"
)

// The toolkit's hook is found where a container engine would find it, and CDI's files where CDI has them.
func TestSystem(t *testing.T) {
	t.Parallel()
	nowhere := func(program string) (string, error) {
		return "", &fs.PathError{Op: "look for", Path: program, Err: fs.ErrNotExist}
	}
	onPath := func(program string) (string, error) { return path.Join("/opt/bin", program), nil }
	spec := &fstest.MapFile{Data: []byte("cdiVersion: 0.5.0\nkind: nvidia.com/gpu\n")}
	for name, c := range map[string]struct {
		root      fstest.MapFS
		lookPath  func(string) (string, error)
		hook, cdi string
	}{
		"nothing":            {fstest.MapFS{"etc/cdi/other.yaml": {Data: []byte("kind: x")}}, nowhere, "", ""},
		"on our PATH":        {fstest.MapFS{}, onPath, "/opt/bin/" + host.ToolkitHook, ""},
		"on systemd's":       {fstest.MapFS{"usr/bin/" + host.ToolkitHook: {Mode: 0o755}}, nowhere, "/usr/bin/" + host.ToolkitHook, ""},
		"cannot be run":      {fstest.MapFS{"usr/bin/" + host.ToolkitHook: {Mode: 0o644}}, nowhere, "", ""},
		"CDI":                {fstest.MapFS{"etc/cdi/a.yaml": {Data: []byte("kind: x")}, "etc/cdi/nvidia.yaml": spec}, nowhere, "", "/etc/cdi/nvidia.yaml"},
		"CDI, while it runs": {fstest.MapFS{"var/run/cdi/nvidia.json": spec}, nowhere, "", "/var/run/cdi/nvidia.json"},
	} {
		h := host.System{Root: c.root, LookPath: c.lookPath}
		if hook, cdi := h.ToolkitHook(), h.CDISpec(); hook != c.hook || cdi != c.cdi {
			t.Errorf("%s: %q and %q", name, hook, cdi)
		}
	}
	h := host.System{Root: fstest.MapFS{"proc/version": {Data: []byte("Linux version 6\n")}}}
	if kernel := h.Kernel(); kernel != "Linux version 6" {
		t.Errorf("the kernel is %q", kernel)
	}
	if _, err := h.DiskFree(t.Context(), filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
	if free, err := h.DiskFree(t.Context(), t.TempDir()); err != nil || free == 0 {
		t.Errorf("a folder that is there: %d, %v", free, err)
	}
}

// What is asked of the real host is asked as each function by itself is.
func TestSystemHere(t *testing.T) {
	t.Parallel()
	here := host.Here()
	if _, err := fs.Stat(here.Root, "proc"); err != nil {
		t.Error(err)
	}
	here.Command = func(context.Context, ...string) ([]byte, error) { return nil, errors.New("it hangs") }
	if _, err := here.GPUs(t.Context()); !errors.Is(err, host.ErrNoGPU) {
		t.Errorf("nvidia-smi that fails: %v", err)
	}
	if free, err := here.PortFree(t.Context(), netip.MustParseAddrPort("127.0.0.1:0")); free || err == nil {
		t.Errorf("port 0, which is none: %t, %v", free, err)
	}
	if user := here.PortUser(netip.AddrPort{}); user != "" {
		t.Errorf("no port is of %q", user)
	}
}
