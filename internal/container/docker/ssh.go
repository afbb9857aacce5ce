package docker

import (
	"context"
	"net"

	"github.com/docker/cli/cli/connhelper"
	"github.com/docker/docker/client"
)

// sshOptions returns what makes a client of an engine behind ssh end its requests in time; nothing for other endpoints.
//
// Each connection is a program, ssh, in Docker's libraries (commandConn in docker/cli's cli/connhelper/commandconn).
// They wait, when it is closed, until nobody has the program's standard error any more, without a bound. A master of
// ControlMaster, which ssh leaves behind, has it for as long as it likes, and net/http closes the connection of a
// request that has run out of time before it returns.
func sshOptions(endpoint string) ([]client.Opt, error) {
	helper, err := connhelper.GetConnectionHelper(endpoint)
	if helper == nil || err != nil {
		return nil, err
	}
	return []client.Opt{client.WithDialContext(func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := helper.Dialer(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return sshConn{conn}, nil
	})}, nil
}

// sshConn is a connection through ssh whose Close does not wait for the program's end.
type sshConn struct{ net.Conn }

// Close implements [net.Conn].
func (c sshConn) Close() error {
	go func() { _ = c.Conn.Close() }() // nobody could tell what went wrong with a program that is to end
	return nil
}

// CloseWrite ends what is sent, and leaves what is received, as attached containers need it.
func (c sshConn) CloseWrite() error {
	if conn, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return conn.CloseWrite()
	}
	return nil
}
