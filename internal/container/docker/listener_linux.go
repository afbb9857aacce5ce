package docker

import (
	"context"
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// listener returns the ID of the process that listens on a unix socket; 0 if that process is in a namespace that this
// process does not see. See SO_PEERCRED in unix(7).
func listener(ctx context.Context, socket string) (pid int, err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	socketConn, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	raw, err := socketConn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var peer *unix.Ucred
	var optErr error
	err = raw.Control(func(fd uintptr) {
		peer, optErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, optErr); err != nil {
		return 0, err
	}
	return int(peer.Pid), nil
}
