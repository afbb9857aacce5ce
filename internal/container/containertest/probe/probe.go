// Package probe is the program inside the containers of the contract suite.
//
// It does what its arguments say and nothing else. In a real container [OS] is what it sees; the fake runtime calls
// [Run] in-process with a System of its own, so that one suite asks the same of both.
package probe

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// Exit codes of the probe itself, chosen so that no test mistakes them for one that it asked for.
const (
	// CodeUsage means that the arguments were not understood.
	CodeUsage = 64
	// CodeFailed means that what was asked could not be done; stderr says why.
	CodeFailed = 65
)

// System is what the probe sees of its container.
type System interface {
	Getenv(name string) string
	ReadFile(path string) ([]byte, error)
	WriteFile(path string, data []byte) error
	// Modified returns when a file was last modified.
	Modified(path string) (time.Time, error)
	// IDs returns the process's user and group.
	IDs() (uid, gid int)
	// Interfaces returns the names of the network interfaces other than loopback.
	Interfaces() ([]string, error)
	Listen(ctx context.Context, port uint16) (net.Listener, error)
	// Terminated returns a channel that is closed by SIGTERM; from the call on, SIGTERM alone no longer ends the process.
	Terminated() <-chan struct{}
	// Allocate takes n bytes of memory and touches every page.
	Allocate(n int64)
}

type command struct {
	args int // fewest arguments
	run  func(ctx context.Context, p process, args []string) (int, error)
}

type process struct {
	sys            System
	stdout, stderr io.Writer
}

// Run does what args say and returns the exit code. The end of ctx is SIGKILL: what Run does then is of no interest.
//
//	exit CODE             ends with CODE
//	print OUT ERR         writes OUT to stdout and ERR to stderr, without newlines
//	flood BYTES LAST      writes lines of BYTES bytes in all to stdout, then LAST without a newline
//	env NAME              prints a variable
//	read PATH             prints a file
//	write PATH TEXT       writes a file
//	modified PATH         prints when a file was last modified, in nanoseconds
//	ids                   prints UID:GID
//	interfaces            prints one network interface a line, without loopback
//	serve PORT TEXT       says "ready", answers each connection with TEXT
//	echo PORT             says "ready", sends back what a connection gets, says "closed" at its end
//	wait                  says "ready", does not handle SIGTERM
//	trap LAST             says "ready", at SIGTERM prints LAST and ends with 0
//	ignore                says "ready", handles SIGTERM by doing nothing
//	allocate BYTES PATH   says "ready", waits for the file PATH, takes memory, says "done"
func Run(ctx context.Context, sys System, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprintln(stderr, "probe: no command")
		return CodeUsage
	}
	c, ok := commands()[args[0]]
	if !ok || len(args)-1 < c.args {
		fmt.Fprintf(stderr, "probe: cannot %q\n", args)
		return CodeUsage
	}
	code, err := c.run(ctx, process{sys, stdout, stderr}, args[1:])
	if err != nil {
		fmt.Fprintf(stderr, "probe: %s: %v\n", args[0], err)
		return CodeFailed
	}
	return code
}

func commands() map[string]command {
	return map[string]command{
		"exit": {1, func(_ context.Context, _ process, a []string) (int, error) { return strconv.Atoi(a[0]) }},
		"print": {2, func(_ context.Context, p process, a []string) (int, error) {
			fmt.Fprint(p.stdout, a[0])
			fmt.Fprint(p.stderr, a[1])
			return 0, nil
		}},
		"flood": {2, flood},
		"env": {1, func(_ context.Context, p process, a []string) (int, error) {
			fmt.Fprintln(p.stdout, p.sys.Getenv(a[0]))
			return 0, nil
		}},
		"read": {1, func(_ context.Context, p process, a []string) (int, error) {
			data, err := p.sys.ReadFile(a[0])
			if err != nil {
				return 0, err
			}
			_, err = p.stdout.Write(data)
			return 0, err
		}},
		"write": {2, func(_ context.Context, p process, a []string) (int, error) {
			return 0, p.sys.WriteFile(a[0], []byte(a[1]))
		}},
		"modified": {1, func(_ context.Context, p process, a []string) (int, error) {
			at, err := p.sys.Modified(a[0])
			fmt.Fprint(p.stdout, at.UnixNano())
			return 0, err
		}},
		"ids": {0, func(_ context.Context, p process, _ []string) (int, error) {
			uid, gid := p.sys.IDs()
			fmt.Fprintf(p.stdout, "%d:%d\n", uid, gid)
			return 0, nil
		}},
		"interfaces": {0, func(_ context.Context, p process, _ []string) (int, error) {
			names, err := p.sys.Interfaces()
			for _, name := range names {
				fmt.Fprintln(p.stdout, name)
			}
			return 0, err
		}},
		"serve": {2, serve},
		"echo":  {1, echo},
		"wait": {0, func(ctx context.Context, p process, _ []string) (int, error) {
			fmt.Fprintln(p.stdout, "ready")
			<-ctx.Done()
			return 0, nil
		}},
		"trap": {1, func(ctx context.Context, p process, a []string) (int, error) {
			terminated := p.sys.Terminated()
			fmt.Fprintln(p.stdout, "ready")
			select {
			case <-terminated:
				fmt.Fprintln(p.stdout, a[0])
			case <-ctx.Done():
			}
			return 0, nil
		}},
		"ignore": {0, func(ctx context.Context, p process, _ []string) (int, error) {
			p.sys.Terminated()
			fmt.Fprintln(p.stdout, "ready")
			<-ctx.Done()
			return 0, nil
		}},
		"allocate": {2, allocate},
	}
}

func flood(_ context.Context, p process, a []string) (int, error) {
	n, err := strconv.Atoi(a[0])
	if err != nil {
		return 0, err
	}
	line := []byte(strings.Repeat("0123456789", 8)[:79] + "\n")
	data := bytes.Repeat(line, n/len(line)+1)[:n]
	if _, err := p.stdout.Write(data); err != nil {
		return 0, err
	}
	_, err = io.WriteString(p.stdout, a[1])
	return 0, err
}

func allocate(ctx context.Context, p process, a []string) (int, error) {
	n, err := strconv.ParseInt(a[0], 10, 64)
	if err != nil {
		return 0, err
	}
	fmt.Fprintln(p.stdout, "ready")
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := p.sys.ReadFile(a[1]); err == nil {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, nil
		}
	}
	p.sys.Allocate(n)
	fmt.Fprintln(p.stdout, "done")
	return 0, nil
}

func serve(ctx context.Context, p process, a []string) (int, error) {
	return 0, accept(ctx, p, a[0], func(conn net.Conn) error {
		_, err := io.WriteString(conn, a[1])
		if closeErr := conn.Close(); err == nil {
			err = closeErr
		}
		return err
	})
}

func echo(ctx context.Context, p process, a []string) (int, error) {
	return 0, accept(ctx, p, a[0], func(conn net.Conn) error {
		go func() {
			_, _ = io.Copy(conn, conn) // who breaks it off closes it too
			_ = conn.Close()
			fmt.Fprintln(p.stdout, "closed")
		}()
		return nil
	})
}

// accept listens on a port, says "ready" and hands each connection on.
func accept(ctx context.Context, p process, number string, handle func(net.Conn) error) error {
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return err
	}
	l, err := p.sys.Listen(ctx, uint16(port))
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	fmt.Fprintln(p.stdout, "ready")
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		if err := handle(conn); err != nil {
			fmt.Fprintf(p.stderr, "probe: %v\n", err)
		}
	}
}
