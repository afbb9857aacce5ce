package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/docker/cli/cli/connhelper/ssh"
	"github.com/docker/docker/client"
)

// programEnd is how long a program, ssh, may take to end by itself, and then again to let go of its standard error.
const programEnd = time.Second

// sshDialer makes the connections of a client of an engine behind ssh. Each is a program, ssh, that runs docker system
// dial-stdio there, as with Docker's own CLI.
//
// The connections of Docker's libraries (commandConn in docker/cli's cli/connhelper/commandconn) wait, when they are
// closed, until nobody has the program's standard error any more, without a bound. A master of ControlMaster, which ssh
// leaves behind, has it for as long as it likes, and net/http closes the connection of a request that has run out of
// time before it returns. Closing in the background leaves programs behind when dalirun ends.
type sshDialer struct {
	args    []string
	asked   sync.Once
	master  []string      // what lonelyMaster returned, once it was asked
	closing chan struct{} // closed by close

	mu       sync.Mutex
	closed   bool
	open     map[*sshConn]bool
	programs sync.WaitGroup // that have not ended
}

// newSSHDialer returns the dialer for an endpoint; nil if that is not behind ssh.
func newSSHDialer(endpoint string) (*sshDialer, error) {
	if !strings.HasPrefix(endpoint, "ssh://") {
		return nil, nil //nolint:nilnil // there is none
	}
	spec, err := ssh.ParseURL(endpoint)
	if err != nil {
		return nil, err
	}
	there := []string{"docker", "system", "dial-stdio"}
	if strings.Trim(spec.Path, "/") != "" {
		there = []string{"docker", "--host=unix://" + spec.Path, "system", "dial-stdio"}
	}
	// -T: a pseudo-terminal would make it a login shell
	args, err := spec.Command([]string{"-o", "ConnectTimeout=30", "-T"}, there...)
	return &sshDialer{args: args, closing: make(chan struct{}), open: map[*sshConn]bool{}}, err
}

// configWithin is how long ssh may take to tell its configuration, for which it may have to run programs (Match exec).
const configWithin = 2 * time.Second

// lonelyMaster returns the options by which an ssh that would become the master of ControlMaster does not, if it would
// end with its own connection, which is so without ControlPersist: closing one connection of dalirun, as that of a
// request that was given up, would end all others. A master that is there already is used nevertheless. It returns
// nothing if ssh does not tell.
func lonelyMaster(ctx context.Context, args []string) []string {
	cmd := exec.CommandContext(ctx, "ssh", append([]string{"-G"}, args...)...) //nolint:gosec // as the user named it
	cmd.WaitDelay = programEnd
	ownGroup(cmd)
	endWithParent(cmd)
	cmd.Cancel = func() error { killGroup(cmd); return nil }
	text, err := cmd.Output()
	lines := strings.Split(string(text), "\n")
	if err != nil || slices.Contains(lines, "controlmaster false") || !slices.Contains(lines, "controlpersist no") {
		return nil
	}
	return []string{"-o", "ControlMaster=no"}
}

// options makes a client use the connections of d.
func (d *sshDialer) options() []client.Opt {
	if d == nil {
		return nil
	}
	return []client.Opt{client.WithDialContext(d.dial)}
}

// dial starts a program. It ends with its connection, not with the context: net/http uses a connection again.
func (d *sshDialer) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	args, err := d.complete(ctx)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, net.ErrClosed
	}
	c := &sshConn{
		cmd:   exec.CommandContext(context.WithoutCancel(ctx), "ssh", args...), //nolint:gosec // as the user named it
		ended: make(chan struct{}),
	}
	c.cmd.Stderr, c.cmd.WaitDelay = &c.stderr, programEnd
	ownGroup(c.cmd)
	endWithParent(c.cmd)
	if err := c.start(); err != nil {
		return nil, err
	}
	d.open[c] = true
	d.programs.Add(1)
	c.wait = sync.OnceFunc(func() {
		go func() {
			defer d.programs.Done()
			c.err = c.cmd.Wait()
			close(c.ended)
			d.mu.Lock()
			defer d.mu.Unlock()
			delete(d.open, c)
		}()
	})
	return c, nil
}

// complete returns all arguments of a connection's program. ssh is asked for some of them once, whatever becomes of the
// request that needs them first; close ends that, and waits for its end.
func (d *sshDialer) complete(ctx context.Context) ([]string, error) {
	d.mu.Lock()
	closed := d.closed
	if !closed {
		d.programs.Add(1)
	}
	d.mu.Unlock()
	if closed {
		return nil, net.ErrClosed
	}
	defer d.programs.Done()
	d.asked.Do(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), configWithin)
		defer cancel()
		go func() {
			select {
			case <-d.closing:
				cancel()
			case <-ctx.Done():
			}
		}()
		d.master = lonelyMaster(ctx, d.args)
	})
	return slices.Concat(d.master, d.args), nil
}

// close closes all connections, and returns once their programs have ended, which takes twice programEnd at most.
func (d *sshDialer) close() {
	if d == nil {
		return
	}
	d.mu.Lock()
	if !d.closed {
		close(d.closing)
	}
	d.closed = true
	for c := range d.open {
		_ = c.Close() // never fails
	}
	d.mu.Unlock()
	d.programs.Wait()
}

// sshConn is a connection through a program: what is sent is its standard input, what is received its standard output.
type sshConn struct {
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	stdout  io.ReadCloser
	stderr  lastBytes
	closing atomic.Bool

	wait  func() // begins to wait for the program's end
	ended chan struct{}
	err   error // how it ended, once it has
}

// start starts the program. The pipes are ours: those of [exec.Cmd] close with the program's end, and who reads or
// writes then would not be told of that.
func (c *sshConn) start() error {
	read, stdin, err := os.Pipe()
	if err != nil {
		return err
	}
	stdout, written, err := os.Pipe()
	if err != nil {
		return errors.Join(err, read.Close(), stdin.Close())
	}
	c.stdin, c.stdout, c.cmd.Stdin, c.cmd.Stdout = stdin, stdout, read, written
	err = c.cmd.Start()
	if err != nil {
		err = errors.Join(err, stdin.Close(), stdout.Close())
	}
	return errors.Join(err, read.Close(), written.Close())
}

// Read implements [net.Conn].
func (c *sshConn) Read(p []byte) (int, error) {
	n, err := c.stdout.Read(p)
	return n, c.reason(err)
}

// Write implements [net.Conn].
func (c *sshConn) Write(p []byte) (int, error) {
	n, err := c.stdin.Write(p)
	return n, c.reason(err)
}

// reason returns err, or why the program failed, as without a login, if err is that it ended.
func (c *sshConn) reason(err error) error {
	if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.EPIPE) || c.closing.Load() {
		return err
	}
	c.end()
	if failed, ok := errors.AsType[*exec.ExitError](c.err); ok {
		return fmt.Errorf("%s ended with %w: %s", c.cmd, failed, c.stderr.text())
	}
	return err
}

// Close implements [net.Conn]. It does not wait for the program's end, as [sshDialer.close] does: a request that has
// run out of time returns at once.
func (c *sshConn) Close() error {
	if c.closing.Swap(true) {
		return nil
	}
	_, _ = c.stdin.Close(), c.stdout.Close() // of a program that is to end
	select {
	case <-c.ended:
	default:
		terminateGroup(c.cmd)
		go c.end()
	}
	return nil
}

// end returns once the program has ended. It kills one that takes longer than programEnd.
func (c *sshConn) end() {
	c.wait()
	timer := time.NewTimer(programEnd)
	defer timer.Stop()
	select {
	case <-c.ended:
	case <-timer.C:
		killGroup(c.cmd)
		<-c.ended
	}
}

// CloseWrite ends what is sent, and leaves what is received, as attached containers need it.
func (c *sshConn) CloseWrite() error { return c.stdin.Close() }

// LocalAddr, RemoteAddr and the deadlines implement [net.Conn]. A program has no address, and deadlines do nothing.
func (c *sshConn) LocalAddr() net.Addr              { return programAddr{} }
func (c *sshConn) RemoteAddr() net.Addr             { return programAddr{} }
func (c *sshConn) SetDeadline(time.Time) error      { return nil }
func (c *sshConn) SetReadDeadline(time.Time) error  { return nil }
func (c *sshConn) SetWriteDeadline(time.Time) error { return nil }

type programAddr struct{}

func (programAddr) Network() string { return "program" }
func (programAddr) String() string  { return "ssh" }

// lastBytes keeps the end of what is written to it.
type lastBytes struct {
	mu   sync.Mutex
	last []byte
}

// Write implements [io.Writer].
func (b *lastBytes) Write(p []byte) (int, error) {
	const most = 4 << 10 // a few lines of ssh
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = append(b.last, p...)
	b.last = b.last[max(0, len(b.last)-most):]
	return len(p), nil
}

func (b *lastBytes) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(bytes.TrimSpace(b.last))
}
