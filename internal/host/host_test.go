package host_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/dalirun/dalirun/internal/host"
)

func TestDiskFree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, file, "."} {
		if got, err := host.Here().DiskFree(t.Context(), path); err != nil || got == 0 {
			t.Errorf("%s: %d, %v", path, got, err)
		}
	}
	for _, path := range []string{filepath.Join(dir, "not", "yet"), filepath.Join(dir, "dangling"), filepath.Join(dir, "dangling", "x")} {
		if _, err := host.Here().DiskFree(t.Context(), path); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	// Under a file nothing can be written, and no parent stands for it.
	if _, err := host.Here().DiskFree(t.Context(), filepath.Join(file, "x")); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), file) {
		t.Errorf("under a file: %v", err)
	}
}

// A disk that does not answer is named.
func TestSilentDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		never := make(chan struct{})
		defer close(never)
		start := time.Now()
		_, err := host.OnDisk(t.Context(), host.DiskWithin, "/mnt/x", func() (int, error) { <-never; return 1, nil })
		if !errors.Is(err, host.ErrSilentDisk) || err.Error() != "the disk of /mnt/x gave no answer within 2s" || time.Since(start) != host.DiskWithin {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
	})
}

// What nobody forbids root, others are forbidden: see TestOnSmallDisk of internal/cli, which is another user there.
func TestWritable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, filepath.Join(dir, "not", "yet", "there"), "."} {
		if err := host.Writable(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, path := range []string{file, filepath.Join(file, "x")} {
		if err := host.Writable(path); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if uid, ok := host.Owner(file); !ok || uid != os.Getuid() {
		t.Errorf("%s belongs to %d, %t", file, uid, ok)
	}
	if _, ok := host.Owner(filepath.Join(dir, "not")); ok {
		t.Error("what is not there has an owner")
	}
}

func TestWSL(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{
		"Linux version 5.15.90.1-microsoft-standard-WSL2 (oe-user@oe-host) (x86_64-msft-linux-gcc (GCC) 9.3.0) #1 SMP":    true,
		"Linux version 4.4.0-19041-Microsoft (Microsoft@Microsoft.com) (gcc version 5.4.0 (GCC) ) #1-Microsoft":           true,
		"Linux version 6.8.0-45-generic (buildd@lcy02-amd64-075) (x86_64-linux-gnu-gcc-13 (Ubuntu 13.2.0-23ubuntu4)) #45": false,
		"": false,
	}
	for version, want := range tests {
		if got := host.WSL(version); got != want {
			t.Errorf("WSL(%q) = %v", version, got)
		}
		if got := host.WSL1(version); got != (want && !strings.Contains(version, "WSL2")) {
			t.Errorf("WSL1(%q) = %v", version, got)
		}
	}
	system := host.System{Root: fstest.MapFS{}}
	if kernel := system.Kernel(); kernel != "" || host.WSL(kernel) {
		t.Errorf("a system without /proc is WSL: %q", kernel)
	}
}

func TestPorts(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1:0", "0.0.0.0:0"} {
		var lc net.ListenConfig
		l, err := lc.Listen(t.Context(), "tcp4", address)
		if err != nil {
			t.Fatal(err)
		}
		port := netip.MustParseAddrPort(l.Addr().String()).Port()
		if free, err := host.IsPortFree(t.Context(), loopback(port)); free || err != nil {
			t.Errorf("%s: free %v, %v while it is listened on", l.Addr(), free, err)
		}
		if runtime.GOOS == "linux" {
			want := fmt.Sprintf("(pid %d)", os.Getpid())
			if got, ok := host.PortUser(os.DirFS("/proc"), loopback(port)); !ok || !strings.HasSuffix(got, want) {
				t.Errorf("%s is used by %q, %v; want %s", l.Addr(), got, ok, want)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		// Another process may have taken it in between; then somebody else is named.
		us := fmt.Sprintf("(pid %d)", os.Getpid())
		if free, err := host.IsPortFree(t.Context(), loopback(port)); err != nil {
			t.Errorf("port %d after it was closed: %v", port, err)
		} else if by, ok := host.PortUser(os.DirFS("/proc"), loopback(port)); !free && (!ok || strings.HasSuffix(by, us)) {
			t.Errorf("port %d is not free after it was closed, and used by %q", port, by)
		}
	}
	if free, err := host.IsPortFree(t.Context(), loopback(0)); free || err == nil {
		t.Errorf("port 0: %v, %v", free, err)
	}
}

// Addresses and states as the kernel writes them. 1F40 is 8000.
func TestPortUser(t *testing.T) {
	t.Parallel()
	const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	line := func(local, state string, uid, inode int) string {
		return fmt.Sprintf("   0: %s 00000000:0000 %s 00000000:00000000 00:00000000 00000000 %5d        0 %d 1 0000000000000000 100 0 0 10 0\n", local, state, uid, inode)
	}
	proc := fstest.MapFS{
		"net/tcp": {Data: []byte(head +
			line("0100007F:1F40", "01", 0, 100) + // a connection
			line("0500000A:1F40", "0A", 0, 101) + // 10.0.0.5 alone
			line("0100007F:1F40", "0A", 33, 102) +
			line("00000000:1F41", "0A", 1000, 103) +
			line("0500000A:1F42", "0A", 0, 104) +
			line("3500007F:1F47", "0A", 0, 108) + // 127.0.0.53 alone
			"garbage\n")},
		"net/tcp6": {Data: []byte(head +
			line("00000000000000000000000000000000:1F43", "0A", 0, 105) +
			line("00000000000000000000000001000000:1F44", "0A", 0, 106) + // ::1 alone
			line("0000000000000000FFFF00000100007F:1F45", "0A", 0, 107) +
			line("B80D0120000000000000000001000000:1F46", "0A", 0, 107) + // 2001:db8::1
			line("00:1F47", "0A", 0, 107) +
			line("garbage1:1F47", "0A", 0, 107))},
		"17/comm":       {Data: []byte("other\n")},
		"17/fd/0":       {Data: []byte("/dev/null"), Mode: fs.ModeSymlink},
		"123/comm":      {Data: []byte("nginx\n")},
		"123/fd/6":      {Data: []byte("socket:[102]"), Mode: fs.ModeSymlink},
		"124/fd/7":      {Data: []byte("socket:[105]"), Mode: fs.ModeSymlink}, // ended before its name was read
		"125/comm":      {Data: []byte("docker-proxy\n")},
		"125/fd/4":      {Data: []byte("socket:[107]"), Mode: fs.ModeSymlink},
		"self/fd/3":     {Data: []byte("socket:[103]"), Mode: fs.ModeSymlink},
		"irq/fd/ignore": {Data: []byte("socket:[103]")},
	}
	tests := map[string]string{
		"127.0.0.1:8000":     "nginx (pid 123)",
		"10.0.0.5:8000":      "a process of uid 0 (root sees which)",
		"192.0.2.7:8000":     "",
		"127.0.0.1:8001":     "a process of uid 1000 (root sees which)",
		"192.0.2.7:8001":     "a process of uid 1000 (root sees which)",
		"127.0.0.1:8002":     "",
		"0.0.0.0:8002":       "a process of uid 0 (root sees which)",
		"127.0.0.1:8003":     "pid 124",
		"[2001:db8::1]:8003": "pid 124",
		"127.0.0.1:8004":     "",
		"[::1]:8004":         "a process of uid 0 (root sees which)",
		"127.0.0.1:8005":     "docker-proxy (pid 125)",
		"[2001:db8::1]:8006": "docker-proxy (pid 125)",
		"127.0.0.1:8007":     "",
		"127.0.0.1:9999":     "",
	}
	for at, want := range tests {
		if got, ok := host.PortUser(proc, netip.MustParseAddrPort(at)); got != want || ok != (want != "") {
			t.Errorf("%s: %q, %v; want %q", at, got, ok, want)
		}
	}
	if got, ok := host.PortUser(fstest.MapFS{}, loopback(8000)); ok {
		t.Errorf("without /proc: %q", got)
	}
}

func loopback(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
}
