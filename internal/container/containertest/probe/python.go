package probe

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
)

// Python stands for the python3 of an image that has none, and knows one program: the forwarder to a port that the
// docker adapter runs, as in `python3 -I -S -c PROGRAM PORT`. It is that program in Go.
func Python(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	const failed, usage = 1, 2
	at := slices.Index(args, "-c")
	if at < 0 || len(args) != at+3 || !strings.Contains(args[at+1], `os.write(1, b"+")`) {
		fmt.Fprintf(stderr, "probe: this Python knows no %q\n", args)
		return usage
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp4", net.JoinHostPort("127.0.0.1", args[at+2]))
	if err != nil {
		fmt.Fprintln(stderr, err)
		return failed
	}
	defer conn.Close() //nolint:errcheck // the process ends, and nobody is left to tell
	if _, err := io.WriteString(stdout, "+"); err != nil {
		return failed
	}
	ended := make(chan struct{}, 2)
	forward := func(to io.Writer, from io.Reader) {
		_, _ = io.Copy(to, from) // its end is that of the connection, whoever ends it
		ended <- struct{}{}
	}
	go forward(conn, stdin)
	go forward(stdout, conn)
	<-ended
	return 0
}
