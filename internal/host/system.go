package host

import (
	"context"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path"
	"strings"

	"github.com/dalirun/dalirun/internal/cdi"
)

// ToolkitHook is the program that a container engine runs for --gpus where it has neither CDI devices nor an nvidia
// runtime. It is of the NVIDIA Container Toolkit.
const ToolkitHook = "nvidia-container-runtime-hook"

// System is what a run asks of this host. All fields are required.
type System struct {
	Root     fs.FS // of the file system
	Command  Runner
	LookPath func(program string) (string, error)
}

// Here is the host that this process runs on.
func Here() System { return System{Root: os.DirFS("/"), Command: Command, LookPath: exec.LookPath} }

// GPUs asks nvidia-smi; see [Probe].
func (s System) GPUs(ctx context.Context) (GPUs, error) { return Probe(ctx, s.Command) }

// Kernel is the text of /proc/version; empty where there is none.
func (s System) Kernel() string {
	proc, err := fs.Sub(s.Root, "proc")
	if err != nil {
		return ""
	}
	return Kernel(proc)
}

// ToolkitHook is the path of [ToolkitHook], looked for where a container engine would; empty if it is not there. The
// engine's PATH is not known: it is ours where somebody started it by hand, and systemd's for a service.
func (s System) ToolkitHook() string {
	if found, err := s.LookPath(ToolkitHook); err == nil {
		return found
	}
	for _, dir := range []string{"usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin"} {
		name := path.Join(dir, ToolkitHook)
		about, err := fs.Stat(s.Root, name)
		if err == nil && about.Mode().IsRegular() && about.Mode()&0o111 != 0 {
			return "/" + name
		}
	}
	return ""
}

// CDISpec is the file that names NVIDIA's devices, in the folders that CDI names; empty if there is none.
func (s System) CDISpec() string {
	for _, pattern := range []string{"etc/cdi/*", "var/run/cdi/*"} {
		files, _ := fs.Glob(s.Root, pattern) // the patterns are well formed
		for _, name := range files {
			if data, err := fs.ReadFile(s.Root, name); err == nil && strings.Contains(string(data), cdi.Kind) {
				return "/" + name
			}
		}
	}
	return ""
}

// PortFree tries a TCP port; see [IsPortFree].
func (System) PortFree(ctx context.Context, at netip.AddrPort) (bool, error) {
	return IsPortFree(ctx, at)
}

// PortUser is who has a TCP port of an address, of all processes; see [PortUser].
func (System) PortUser(at netip.AddrPort) string {
	user, _ := PortUser(os.DirFS("/proc"), at)
	return user
}

// DiskFree is how many bytes a user without privileges can still write where a file or folder is: none where the file
// system can have no more files. [fs.ErrNotExist] if there is nothing of that name. It takes at most [DiskWithin].
func (System) DiskFree(ctx context.Context, folder string) (uint64, error) {
	return OnDisk(ctx, DiskWithin, folder, func() (uint64, error) {
		bytes, err := free(folder)
		if err != nil {
			err = fmt.Errorf("free space of %s: %w", folder, err)
		}
		return bytes, err
	})
}
