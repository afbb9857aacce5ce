package serving

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/printable"
)

// WriteProcesses writes a table for people, and below it what is wrong with servers. Ages are as of now.
func WriteProcesses(w io.Writer, rows []Process, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tSTEP\tSTATE\tOWNER\tGRPC\tAGE\tHEALTH\tLANE\tIMAGES\tWEIGHTS\tWORKSPACE")
	for _, r := range rows {
		state, health := "ended", "" // of what is no server of this host
		switch {
		case r.Paused:
			state = "paused"
		case r.Running:
			state = "running"
		case r.Health != nil && r.Health.State == Starting:
			state = "created"
		}
		if r.Health != nil {
			health = r.Health.State.Word()
		}
		s := r.Served
		if s.Seeded() {
			s.Weights += " (" + LabelsMeanNothing + ")"
		}
		fmt.Fprintln(t, strings.Join([]string{
			r.Name, printable.Line(r.Step), state, r.Owner, r.GRPC, now.Sub(r.Created).Round(time.Second).String(), health,
			s.Lane, s.Source, printable.Line(s.Weights), printable.Name(r.Workspace),
		}, "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range rows {
		if r.Health != nil && r.Health.State != Healthy {
			fmt.Fprintln(w)
			WriteHealth(w, r.Name, *r.Health)
		}
	}
	return nil
}

// WriteHealth writes for people how the server of that name is, and what mends it.
func WriteHealth(w io.Writer, name string, h Health) {
	fmt.Fprintf(w, "%s is %s\n", name, printable.Line(h.String()))
	if h.MendNote != "" {
		fmt.Fprintf(w, "  %s:\n", printable.Line(h.MendNote))
	}
	if h.Mend != "" {
		fmt.Fprintf(w, "  %s\n", h.Mend)
	}
}

// WriteAddresses writes for people where a server that is ready is.
func WriteAddresses(w io.Writer, s owner.ServerFile) error {
	addresses := fmt.Sprintf("grpc %s · http %s · metrics %s", s.GRPC, s.HTTP, s.Metrics)
	if s.Engine == "" {
		_, err := fmt.Fprintf(w, "ready: %s\n", addresses)
		return err
	}
	_, err := fmt.Fprintf(w, "ready: on the container engine's host, %s: %s\n", s.Engine, addresses)
	if at, parseErr := netip.ParseAddrPort(s.GRPC); parseErr == nil && at.Addr().IsLoopback() {
		_, err = fmt.Fprintln(w, "here `dalirun classify` reaches it; `dalirun serve --host ADDRESS` publishes it for others")
	}
	return err
}
