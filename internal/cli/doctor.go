package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// status is how a check ended.
type status string

const (
	statusOK   status = "ok"
	statusWarn status = "warn" // a run works, perhaps not as wished
	statusFail status = "fail" // a run would fail
)

// finding is what a check saw, and what to do about it.
type finding struct {
	Check  string `json:"check"`
	Status status `json:"status"`
	Saw    string `json:"saw"`
	Remedy string `json:"remedy,omitempty"`
}

// check looks at one thing.
type check struct {
	name string
	look func(context.Context) finding
}

const (
	// checkWithin bounds one check.
	checkWithin = 5 * time.Second
	// localNeed is the disk that the two local images and their build take (seen: 1.8 GB and 1.3 GB, and layers).
	localNeed = 6 * units.GiB
	// ngcNeed is the disk that the two NGC images take unpacked (triton and pytorch 25.03: 15 to 20 GB each).
	ngcNeed = 45 * units.GiB
	// cacheNeed is the disk that the results of one run take: weights, ONNX, engine.
	cacheNeed = units.GiB
)

func (a *App) doctorCommand() *cobra.Command {
	var w wishes
	var format *choice
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check whether a run with these flags would work here",
		Long: `doctor looks at what a run needs. It ends with 3 if a run with the same flags
would fail. It changes nothing but notes in the cache.`,
		Example: `  dalirun doctor
  dalirun doctor --accel cpu --weights auto --format json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := w.check(); err != nil {
				return err
			}
			findings := a.doctor(cmd.Context(), &w)
			if err := cmd.Context().Err(); err != nil {
				return context.Cause(cmd.Context())
			}
			if err := writeFindings(a.Stdout, findings, format.value); err != nil {
				return err
			}
			for _, f := range findings {
				if f.Status == statusFail {
					return &shownError{pipeline.Faultf(pipeline.Environment, f.Remedy, "%s: %s", f.Check, f.Saw)}
				}
			}
			return nil
		},
	}
	w.flags(a, cmd)
	format = formatFlag(cmd)
	return cmd
}

// doctor runs the checks one after the other: each may rest on what an earlier one saw.
func (a *App) doctor(ctx context.Context, w *wishes) []finding {
	d := &diagnosis{app: a, wishes: w}
	var findings []finding
	for _, c := range []check{
		{"container engine", d.engine}, // it answers, and this user may talk to it
		{"gpu", d.gpu},                 // there is one, if one is wanted
		{"disk", d.disk},               // images and results fit
		{"ports", d.ports},             // the usual ports are free, or those named
		{"weights", d.weights},         // they can be had
	} {
		ctx, cancel := context.WithTimeout(ctx, checkWithin)
		f := c.look(ctx)
		cancel()
		f.Check = c.name
		findings = append(findings, f)
	}
	return findings
}

// diagnosis is what the checks have seen so far.
type diagnosis struct {
	app     *App
	wishes  *wishes
	info    container.Info
	answers bool
	lane    steps.Lane
}

func (d *diagnosis) engine(ctx context.Context) finding {
	runtime, err := d.app.runtime(nil)
	if err == nil {
		d.info, err = runtime.Info(ctx)
	}
	if err != nil {
		return finding{Status: statusFail, Saw: err.Error(), Remedy: hintOf(err, "start it: `sudo systemctl start docker`, or in a checkout `go tool task engine`")}
	}
	d.answers = true
	return finding{Status: statusOK, Saw: fmt.Sprintf("%s %s (API %s) at %s", d.info.Name, d.info.Version, d.info.APIVersion, d.info.Endpoint)}
}

func (d *diagnosis) gpu(ctx context.Context) finding {
	r := resolved{Options: steps.Options{Precision: release.Precision(d.wishes.precision.value)}}
	h, err := resolveLane(ctx, d.wishes, &r)
	d.lane = r.Lane
	if err == nil && (r.Lane == steps.GPU || d.wishes.images.value == string(steps.NGC)) {
		err = pickRelease(d.wishes.release, h, &r)
	}
	switch {
	case err != nil:
		return finding{Status: statusFail, Saw: err.Error(), Remedy: hintOf(err, "")}
	case r.Lane == steps.CPU:
		return finding{Status: statusOK, Saw: "the cpu lane is taken: " + r.LaneReason}
	case len(r.Doubts) > 0:
		return finding{Status: statusWarn, Saw: r.LaneReason + ": " + r.Doubts[0]}
	default:
		return finding{Status: statusOK, Saw: fmt.Sprintf("%s, compute capability %s: release %s", r.LaneReason, r.Device.Compute, r.Release.Tag)}
	}
}

func (d *diagnosis) disk(context.Context) finding {
	images, what := int64(localNeed), "the local images"
	if d.lane == steps.GPU || d.wishes.images.value == string(steps.NGC) {
		images, what = ngcNeed, "NVIDIA's images"
	}
	for _, place := range []struct {
		path, what string
		need       int64
	}{{d.info.RootDir, what, images}, {d.wishes.cache, "the cache", cacheNeed}} {
		if place.path == "" || d.info.Remote && place.path == d.info.RootDir {
			continue // it cannot be seen from here
		}
		free, err := host.DiskFree(place.path)
		if err != nil {
			return finding{Status: statusWarn, Saw: err.Error()}
		}
		if int64(free) < place.need { //nolint:gosec // no disk has 2^63 bytes
			return finding{
				Status: statusWarn, Remedy: "`docker system df` and `dalirun gc --dry-run` say what could go",
				Saw: fmt.Sprintf("%s: %s free, %s may need %s", place.path, units.BytesSize(float64(free)), place.what, units.BytesSize(float64(place.need))),
			}
		}
	}
	return finding{Status: statusOK, Saw: "there is room for " + what + " and the cache"}
}

func (d *diagnosis) ports(ctx context.Context) finding {
	f := finding{Status: statusOK, Saw: "free"}
	for _, p := range []container.Port{
		port(d.wishes.http, steps.PortHTTP), port(d.wishes.grpc, steps.PortGRPC), port(d.wishes.metrics, steps.PortMetrics),
	} {
		free, err := host.IsPortFree(ctx, p.Host)
		if err != nil {
			return finding{Status: statusWarn, Saw: err.Error()}
		}
		if free {
			continue
		}
		by := ""
		if user, ok := host.PortUser(os.DirFS("/proc"), p.Host); ok {
			by = " by " + user
		}
		f.Saw = fmt.Sprintf("port %d is in use%s", p.Host, by)
		if p.Required {
			f.Status, f.Remedy = statusFail, "stop it, name another port, or name none and a free one is taken"
			return f
		}
		f.Saw += ": a free one will be taken"
	}
	return f
}

func (d *diagnosis) weights(ctx context.Context) finding {
	source, auto, err := d.wishes.weightsSource()
	if err != nil {
		return finding{Status: statusFail, Saw: err.Error(), Remedy: hintOf(err, "")}
	}
	if source.Kind != steps.Pretrained && !auto {
		return finding{Status: statusOK, Saw: weightsName(source)}
	}
	cache, err := store.Open(d.wishes.cache)
	if err != nil {
		return finding{Status: statusFail, Saw: err.Error(), Remedy: "name another folder with --cache-dir"}
	}
	switch err := pretrained(ctx, cache, reachable); {
	case err == nil:
		return finding{Status: statusOK, Saw: "the pretrained weights can be had"}
	case auto:
		return finding{Status: statusWarn, Saw: err.Error() + "; seeded random weights would be used"}
	default:
		return finding{Status: statusFail, Saw: err.Error(), Remedy: "check the network or proxy; --weights auto falls back to seeded weights"}
	}
}

func hintOf(err error, otherwise string) string {
	if fault, ok := errors.AsType[*pipeline.Fault](err); ok && fault.Hint != "" {
		return fault.Hint
	}
	return otherwise
}

func writeFindings(w io.Writer, findings []finding, format string) error {
	if format == "json" {
		return writeJSON(w, findings)
	}
	for _, f := range findings {
		fmt.Fprintf(w, "%-4s  %-16s  %s\n", f.Status, f.Check, f.Saw)
		if f.Remedy != "" {
			fmt.Fprintf(w, "%24s%s\n", "", f.Remedy)
		}
	}
	return nil
}
