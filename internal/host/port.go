package host

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/dalirun/dalirun/internal/container"
)

// IsPortFree says whether a TCP port of an address of this host can be listened on now. A listener on all addresses
// takes it too. It is an error if that cannot be tried, as with a port under 1024 without the right to it.
func IsPortFree(ctx context.Context, at netip.AddrPort) (bool, error) {
	if at.Port() == 0 {
		return false, errors.New("port 0 is no port")
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", at.String())
	if errors.Is(err, syscall.EADDRINUSE) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("trying port %d: %w", at.Port(), err)
	}
	return true, l.Close()
}

// PortUser says who keeps others from listening at an address, see [container.Takes]: "nginx (pid 123)". proc is /proc
// of Linux, os.DirFS("/proc"); elsewhere nothing is found. A process of another user is only seen by root; then its
// user is named. False: nobody does.
func PortUser(proc fs.FS, at netip.AddrPort) (string, bool) {
	for _, table := range []string{"net/tcp", "net/tcp6"} {
		s, ok := findListener(proc, table, at)
		if !ok {
			continue
		}
		if process, ok := findProcess(proc, s.inode); ok {
			return process, true
		}
		return fmt.Sprintf("a process of uid %s (root sees which)", s.uid), true
	}
	return "", false
}

type socket struct{ uid, inode string }

// Columns of /proc/net/tcp, and its state for a listening socket.
const (
	localColumn, stateColumn, uidColumn, inodeColumn = 1, 3, 7, 9

	listening = "0A"
)

func findListener(proc fs.FS, table string, at netip.AddrPort) (socket, bool) {
	f, err := proc.Open(table)
	if err != nil {
		return socket{}, false
	}
	defer func() { _ = f.Close() }() // only read
	for lines := bufio.NewScanner(f); lines.Scan(); {
		columns := strings.Fields(lines.Text())
		if len(columns) <= inodeColumn || columns[stateColumn] != listening {
			continue
		}
		if local, ok := parseLocal(columns[localColumn]); ok && container.Takes(local, at) {
			return socket{uid: columns[uidColumn], inode: columns[inodeColumn]}, true
		}
	}
	return socket{}, false
}

// parseLocal reads a local address such as 0100007F:1F40, which is 127.0.0.1:8000. The kernel writes addresses as
// 32-bit words in the machine's order, little endian on all that this program is built for.
func parseLocal(text string) (netip.AddrPort, bool) {
	hexAddress, hexPort, _ := strings.Cut(text, ":")
	octets, err := hex.DecodeString(hexAddress)
	if err != nil || len(octets)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for word := range slices.Chunk(octets, 4) {
		slices.Reverse(word)
	}
	address, ok := netip.AddrFromSlice(octets)
	port, err := strconv.ParseUint(hexPort, 16, 16)
	return netip.AddrPortFrom(address, uint16(port)), ok && err == nil
}

func findProcess(proc fs.FS, inode string) (string, bool) {
	links, err := fs.Glob(proc, "[0-9]*/fd/*")
	if err != nil {
		return "", false
	}
	want := "socket:[" + inode + "]"
	for _, link := range links {
		// Processes end and other users' are closed to us: what cannot be read is passed over.
		if target, err := fs.ReadLink(proc, link); err != nil || target != want {
			continue
		}
		pid, _, _ := strings.Cut(link, "/")
		comm, err := fs.ReadFile(proc, pid+"/comm")
		if err != nil {
			return "pid " + pid, true
		}
		return fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(comm)), pid), true
	}
	return "", false
}
