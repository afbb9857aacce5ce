package target

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/recipe"
	"github.com/dalirun/dalirun/internal/registry"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/spelling"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/triton"
)

// Request is a user's request for a run, from flags, environment and file. Parts of it may be "auto".
type Request struct {
	Command string `json:"command"` // setup, serve, e2e, plan or doctor
	// Exhaustive has Resolve go on after the first obstacle, and find out beforehand what a run finds out as it goes.
	// Doctor sets it.
	Exhaustive bool `json:"exhaustive,omitempty"`
	// Workspace is the absolute path of the workspace, whose own server is in nobody's way.
	Workspace string `json:"workspace,omitempty"`

	Accel      string         `json:"accel"` // auto, gpu or cpu
	RequireGPU bool           `json:"require_gpu,omitempty"`
	GPUs       container.GPUs `json:"gpus"`
	Images     string         `json:"images"` // auto, ngc or local

	Release       string `json:"release,omitempty"` // YY.MM; empty is the newest that this host can run
	Registry      string `json:"registry"`          // HOST or HOST/PREFIX of NVIDIA's images
	ExporterImage string `json:"exporter_image,omitempty"`
	ServerImage   string `json:"server_image,omitempty"`
	BaseImage     string `json:"base_image,omitempty"` // empty is the usual one
	BuildNetwork  string `json:"build_network,omitempty"`

	// Lock is what an earlier run resolved, by which images are pulled.
	Lock Locked `json:"lock,omitzero"`

	Model     string            `json:"model,omitempty"` // name of a recipe; empty is [recipe.Default]
	Weights   WeightsSource     `json:"weights"`
	Picture   Picture           `json:"picture"`
	Precision release.Precision `json:"precision"`
	OptBatch  int               `json:"opt_batch,omitempty"` // 0 is the usual one
	MaxBatch  int               `json:"max_batch"`           // 1 to 256
	Serving   Serving           `json:"serving,omitzero"`    // zero fields are the usual ones

	// Host is the address that the server is published on; zero is the loopback address.
	Host netip.Addr `json:"host,omitzero"`
	// of this host; 0 is the usual one if it is free, else a free one
	HTTPPort     int           `json:"http_port,omitempty"`
	GRPCPort     int           `json:"grpc_port,omitempty"`
	MetricsPort  int           `json:"metrics_port,omitempty"`
	ReadyTimeout time.Duration `json:"ready_timeout"`

	Settings Settings `json:"settings,omitempty"` // the flags that were named, by which errors name their source
}

// Check refuses a request that is wrong on every machine. The error is a usage fault that names flags as they were
// written.
func (r Request) Check() error {
	s := r.Settings
	if _, err := r.recipe(); err != nil {
		known, _ := recipe.Shipped() // whose error is that one
		return pipeline.Usagef(cmp.Or(spelling.Nearest(r.Model, known), "name one of "+strings.Join(known, ", ")),
			"%s: %w", s.Origin("model"), err)
	}
	if r.OptBatch > r.MaxBatch {
		return pipeline.Usagef(fmt.Sprintf("use --opt-batch %d", r.MaxBatch), "%s is larger than %s",
			s.Written("opt-batch", strconv.Itoa(r.OptBatch)), s.Written("max-batch", strconv.Itoa(r.MaxBatch)))
	}
	if r.Serving.PreferredBatch > r.MaxBatch {
		return pipeline.Usagef(fmt.Sprintf("prefer %d, or raise --max-batch", r.MaxBatch), "%s is larger than %s",
			s.Written("serving", fmt.Sprintf("preferred-batch=%d", r.Serving.PreferredBatch)),
			s.Written("max-batch", strconv.Itoa(r.MaxBatch)))
	}
	if r.RequireGPU && r.Accel == string(CPU) {
		return pipeline.Usagef("drop one of them", "%s and %s exclude each other", s.Written("require-gpu", "true"),
			s.Written("accel", r.Accel))
	}
	if r.Accel == string(GPU) && r.Images == string(Local) {
		return pipeline.Usagef("use --images ngc, or --accel cpu",
			"%s is not offered on the gpu lane: PyPI has no TensorRT backend for tritonserver",
			s.Written("images", r.Images))
	}
	if _, err := r.namedSituation().Unused(); err != nil {
		return err
	}
	if r.ReadyTimeout <= 0 {
		return pipeline.Usagef("name a duration above 0, as in 30s", "%s is out of range",
			s.Written("ready-timeout", r.ReadyTimeout.String()))
	}
	if r.Release != "" {
		if _, err := release.Find(r.Release); err != nil {
			known := release.All()
			return pipeline.Usagef("the known ones are from "+known[0].Tag+" to "+known[len(known)-1].Tag, "%s: %w",
				s.Origin("release"), err)
		}
	}
	if err := r.checkReferences(); err != nil {
		return err
	}
	return r.distinctPorts()
}

// recipe is what the model is that is asked for.
func (r Request) recipe() (recipe.Recipe, error) { return recipe.Load(cmp.Or(r.Model, recipe.Default)) }

// namedSituation returns the situation as far as the request names it.
func (r Request) namedSituation() Situation {
	s := r.Situation("", "")
	if r.Accel != Auto {
		s.Lane = Lane(r.Accel)
	}
	if r.Images != Auto {
		s.Source = Source(r.Images)
	}
	return s
}

// Situation returns the situation of the request's run with a lane and an image source.
func (r Request) Situation(lane Lane, source Source) Situation {
	return Situation{Command: r.Command, Lane: lane, Source: source, Settings: r.Settings}
}

// checkReferences refuses names that cannot be a registry's or an image's.
func (r Request) checkReferences() error {
	for _, named := range [][2]string{
		{"registry", r.Registry},
		{"exporter-image", r.ExporterImage},
		{"server-image", r.ServerImage},
		{"base-image", r.BaseImage},
	} {
		if hasCredentials(named[1]) {
			return pipeline.Usagef("leave that out; `docker login` keeps what a registry wants",
				"%s: what stands before @ in it reads as credentials", r.Settings.Origin(named[0]))
		}
	}
	_, err := reference.ParseNormalizedNamed(r.Registry + "/nvidia/tritonserver:25.03-py3")
	if err != nil || r.Registry == "" {
		return pipeline.Usagef("as in --registry nvcr.io or --registry registry.example:5000/mirror",
			"%s: %q is not of the form HOST or HOST/PREFIX", r.Settings.Origin("registry"), r.Registry)
	}
	// Without a dot, a port or localhost it would be a name on Docker Hub.
	if host, _, _ := strings.Cut(r.Registry, "/"); host != "localhost" && !strings.ContainsAny(host, ".:") {
		return pipeline.Usagef("as in --registry registry.example/mirror", "%s: %q begins with no host",
			r.Settings.Origin("registry"), r.Registry)
	}
	const form = "as in registry.example/team/image:tag"
	for _, image := range []struct {
		flag, ref string
		pulled    bool // by its name in a registry
	}{
		{"exporter-image", r.ExporterImage, true},
		{"server-image", r.ServerImage, true},
		{"base-image", r.BaseImage, false},
	} {
		if image.ref == "" {
			continue
		}
		if _, err := reference.ParseAnyReference(image.ref); err != nil {
			return pipeline.Usagef(form, "%s: %q is no image reference: %w", r.Settings.Origin(image.flag), image.ref, err)
		}
		if !image.pulled {
			continue
		}
		if err := registry.CheckReference(image.ref); err != nil {
			return pipeline.Usagef(form, "%s: %q is no image of a registry: %w", r.Settings.Origin(image.flag), image.ref, err)
		}
	}
	return nil
}

// hasCredentials says whether a reference names who asks, as in USER:PASSWORD@HOST: it is not to be shown then.
func hasCredentials(ref string) bool {
	_, rest, found := strings.Cut(ref, "@")
	algorithm, _, _ := strings.Cut(rest, ":")
	return found && (algorithm != "sha256" && algorithm != "sha512" || strings.Contains(rest, "@"))
}

// distinctPorts refuses one port for two flags.
func (r Request) distinctPorts() error {
	flags := map[int]string{}
	for _, p := range []struct {
		flag string
		port int
	}{{"http-port", r.HTTPPort}, {"grpc-port", r.GRPCPort}, {"metrics-port", r.MetricsPort}} {
		if flag, twice := flags[p.port]; twice && p.port != 0 {
			return pipeline.Usagef("name another port, or none", "%s and %s are both %d", r.Settings.Origin(flag),
				r.Settings.Origin(p.flag), p.port)
		}
		flags[p.port] = p.flag
	}
	return nil
}

// namesPorts says whether the command publishes a server on the ports of the request. Setup publishes none, and the
// servers of tune stand at free ports, several at a time.
func (r Request) namesPorts() bool { return !slices.Contains(NeverUsed(r.Command), "http-port") }

// startsServer says whether the command starts a server, and does not only say what one would be.
func (r Request) startsServer() bool { return r.Command == "serve" || r.Command == "e2e" }

// ports returns the requested ports, else the usual ones, or free ones for a command that publishes on none of them.
func (r Request) ports() Ports {
	if !r.namesPorts() {
		return Ports{
			HTTP: container.Port{Container: triton.PortHTTP}, GRPC: container.Port{Container: triton.PortGRPC},
			Metrics: container.Port{Container: triton.PortMetrics},
		}
	}
	port := func(number int, usual uint16) container.Port {
		if number != 0 {
			//nolint:gosec // 1 to 65535
			return container.Port{Container: usual, Address: r.Host, Host: uint16(number), Required: true}
		}
		return container.Port{Container: usual, Address: r.Host, Host: usual}
	}
	return Ports{
		HTTP: port(r.HTTPPort, triton.PortHTTP), GRPC: port(r.GRPCPort, triton.PortGRPC),
		Metrics: port(r.MetricsPort, triton.PortMetrics),
	}
}
