package docker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/shell"
)

// Run creates, starts and follows a container.
func (r *Runtime) Run(ctx context.Context, spec container.Spec, out container.Streams) (container.Container, error) {
	c, err := r.run(ctx, spec, out)
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", spec.Step, err)
	}
	return c, nil
}

func (r *Runtime) run(ctx context.Context, spec container.Spec, out container.Streams) (*handle, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	for _, m := range mountsOf(spec) {
		if _, err := os.Stat(m.Source); err != nil {
			return nil, fmt.Errorf("mount %s at %s: %w", m.Source, m.Target, err)
		}
	}
	f, err := r.facts(ctx)
	if err != nil {
		return nil, err
	}
	spec.Publish = yieldOwn(spec.Publish)
	for {
		q, err := r.translate(spec, f)
		if err != nil {
			return nil, err
		}
		c, err := r.attempt(ctx, spec, q, out)
		switch {
		case errors.Is(err, errOtherFolders): // the next attempt copies folders
		case errors.Is(err, container.ErrPortTaken):
			if err := r.yieldPort(ctx, &spec, err); err != nil {
				return nil, err
			}
		default:
			return c, err
		}
	}
}

// yieldOwn gives up the preferred host ports that another port of the same container needs. Podman keeps the first of
// two for some seconds after it has refused the second (seen on 4.3.1), so that the engine is not asked for both.
func yieldOwn(ports []container.Port) []container.Port {
	ports = slices.Clone(ports)
	for i, p := range ports {
		own := func(other container.Port) bool { return other.Required && container.Takes(at(other), at(p)) }
		if p.Host != 0 && !p.Required && slices.ContainsFunc(ports, own) {
			ports[i].Host = 0
		}
	}
	return ports
}

func at(p container.Port) netip.AddrPort { return netip.AddrPortFrom(p.HostAddress(), p.Host) }

// yieldPort gives up a preferred host port that is in use, or returns the error if there is none to give up. Each
// attempt has one preferred port less, so that the loop ends.
func (r *Runtime) yieldPort(ctx context.Context, spec *container.Spec, taken error) error {
	port, known := takenPort(taken)
	at := netip.AddrPortFrom(container.Port{}.HostAddress(), port)
	for i := range spec.Publish {
		p := &spec.Publish[i]
		if p.Host != 0 && !p.Required && (!known || p.Host == port) {
			p.Host = 0
			return nil
		}
		if p.Host == port {
			at = netip.AddrPortFrom(p.HostAddress(), port)
		}
	}
	if !known {
		return taken
	}
	return &runtimeError{
		kind: container.ErrPortTaken, cause: taken,
		text: fmt.Sprintf("port %d of %s: %s%s: free it or name another one", port, at.Addr(), container.ErrPortTaken,
			r.publisher(ctx, at)),
	}
}

// publisher returns " by container NAME" for the container whose published port takes an address, with the command that
// stops it if it is a server of dalirun. It is empty if no container does.
func (r *Runtime) publisher(ctx context.Context, at netip.AddrPort) string {
	rows, err := r.list(ctx, dcontainer.ListOptions{Filters: filters.NewArgs(filters.Arg("status", "running"))})
	if err != nil {
		return "" // the name only completes another error
	}
	for _, row := range rows {
		for _, port := range row.Ports { // a container port may be published more than once
			if published, ok := publishedAt(port); !ok || !container.Takes(published, at) {
				continue
			}
			c := summarize(row)
			publisher := " by container " + c.Name
			if c.Labels[container.LabelRole] == string(container.RoleServer) {
				publisher += ", which `" + shell.Line("dalirun", "stop", "--workspace",
					c.Labels[container.LabelWorkspace]) + "` stops"
			}
			return publisher
		}
	}
	return ""
}

// attempt creates, fills, starts and follows one container, and removes it if any of that fails.
func (r *Runtime) attempt(
	ctx context.Context, spec container.Spec, q request, out container.Streams,
) (c *handle, err error) {
	name := r.name(spec.Step)
	// The name is made before the container, because a request that fails may have created it nevertheless.
	defer func() {
		if err != nil {
			err = errors.Join(err, r.discard(ctx, name))
		}
	}()
	id, err := r.create(ctx, name, q)
	if err != nil && r.missing(spec, err) {
		return nil, errOtherFolders
	}
	if err != nil {
		return nil, err
	}
	if err := r.compare(ctx, id, spec); err != nil {
		return nil, err
	}
	if err := r.fill(ctx, id, name, q); err != nil {
		return nil, err
	}
	c = &handle{runtime: r, id: id, name: name, volumes: q.volumes, done: make(chan struct{})}
	return c, c.begin(ctx, spec.Image, out)
}

func (r *Runtime) create(ctx context.Context, name string, q request) (string, error) {
	late, stop := outlive(ctx)
	defer stop()
	created, err := r.api.ContainerCreate(late, &q.config, &q.host, nil, nil, name)
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	return created.ID, r.explain(late, "create a container of "+q.config.Image, err)
}

// begin starts the container and follows it until its end, also after ctx has ended.
func (h *handle) begin(ctx context.Context, image string, out container.Streams) (err error) {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			end()
		}
	}()
	o, err := h.attach(ctx, life, out)
	if err != nil {
		return err
	}
	if err := h.runtime.start(ctx, h.id, image); err != nil {
		return err
	}
	if err := o.follow(ctx, life); err != nil {
		return err
	}
	go func() {
		defer end()
		h.exit, h.err = h.end(life, o)
		close(h.done)
	}()
	return nil
}

func (r *Runtime) start(ctx context.Context, id, image string) error {
	late, stop := outlive(ctx)
	defer stop()
	err := r.api.ContainerStart(late, id, dcontainer.StartOptions{})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return r.explain(late, "start a container of "+image, err)
}

// outlive returns a context that ends some seconds after ctx does. An engine goes on with a creation or a start whose
// client disconnected, and a removal before its end finds no container. So its answer is awaited first.
func outlive(ctx context.Context) (context.Context, context.CancelFunc) {
	late, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(cleanup / 2)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel(context.Cause(ctx))
		case <-late.Done():
		}
	})
	return late, func() {
		stop()
		cancel(context.Canceled)
	}
}

// limit returns a context for a request that an engine answers from memory.
func (r *Runtime) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	within := r.options.AnswerWithin
	return context.WithTimeoutCause(ctx, within, fmt.Errorf("%w within %s", errNoReply, within))
}

// name returns a new name for a container, which shows the step and the run.
func (r *Runtime) name(step string) string {
	const runDigits = 8
	parts := []string{"dalirun", clean(step)}
	if run := clean(r.options.Labels[container.LabelRun]); run != "" {
		parts = append(parts, run[max(0, len(run)-runDigits):])
	}
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails: see crypto/rand
	return strings.Join(append(parts, hex.EncodeToString(random[:])), "-")
}

// clean keeps the characters that a container's name may have.
func clean(s string) string {
	return strings.Trim(strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' {
			return c
		}
		return -1
	}, s), "-")
}

// List returns the containers that have all given labels.
func (r *Runtime) List(ctx context.Context, labels container.Labels) ([]container.Summary, error) {
	ctx, cancel := r.limit(ctx)
	defer cancel()
	filter := filters.NewArgs()
	for name, value := range labels {
		if value != "" {
			name += "=" + value
		}
		filter.Add("label", name)
	}
	rows, err := r.list(ctx, dcontainer.ListOptions{All: true, Filters: filter})
	if err != nil {
		return nil, r.explain(ctx, "list containers", err)
	}
	list := make([]container.Summary, 0, len(rows))
	for _, row := range rows {
		list = append(list, summarize(row))
	}
	return list, nil
}

// list lists containers with all of their ports. Of ports that follow each other Podman lists the first alone (seen on
// 4.3.1), so that its containers are asked one by one.
func (r *Runtime) list(ctx context.Context, o dcontainer.ListOptions) ([]dcontainer.Summary, error) {
	rows, err := r.api.ContainerList(ctx, o)
	publish := func(row dcontainer.Summary) bool { return len(row.Ports) > 0 }
	if err != nil || !slices.ContainsFunc(rows, publish) {
		return rows, err
	}
	f, err := r.facts(ctx)
	if err != nil || !f.info.Podman() {
		return rows, err
	}
	for i, row := range rows {
		if !publish(row) {
			continue
		}
		found, err := r.api.ContainerInspect(ctx, row.ID)
		if cerrdefs.IsNotFound(err) {
			continue // it was removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		rows[i].Ports = nil
		for inside, bindings := range found.NetworkSettings.Ports {
			for _, b := range bindings {
				outside, _ := strconv.ParseUint(b.HostPort, 10, 16) // what is none publishes nothing
				rows[i].Ports = append(rows[i].Ports, dcontainer.Port{
					IP: b.HostIP, PrivatePort: uint16(inside.Int()), //nolint:gosec // it is one
					PublicPort: uint16(outside), Type: inside.Proto(),
				})
			}
		}
	}
	return rows, nil
}

func summarize(row dcontainer.Summary) container.Summary {
	s := container.Summary{
		ID: row.ID, Image: row.Image, Labels: row.Labels,
		Running: slices.Contains([]string{"running", "paused", "restarting", "stopping"}, row.State),
		Paused:  row.State == "paused",
		Created: time.Unix(row.Created, 0),
	}
	if len(row.Names) > 0 {
		s.Name = strings.TrimPrefix(row.Names[0], "/")
	}
	for _, p := range row.Ports {
		addr, ok := publishedAt(p)
		if !ok {
			continue
		}
		if s.Ports == nil {
			s.Ports = addrs{}
		}
		s.Ports[p.PrivatePort] = addr
	}
	return s
}

// publishedAt returns the address of the host on which a row publishes a TCP port; ok is false if it publishes none.
func publishedAt(p dcontainer.Port) (addr netip.AddrPort, ok bool) {
	addr, err := published(p.IP, strconv.Itoa(int(p.PublicPort)))
	return addr, p.Type == "tcp" && p.PublicPort != 0 && err == nil
}
