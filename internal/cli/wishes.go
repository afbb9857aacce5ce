package cli

import (
	"context"
	"errors"
	"path/filepath"
	"syscall"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/steps"
)

// baseImage is what the local images are built on.
const baseImage = "debian:bookworm-slim"

const (
	// leastMemory leaves room for an interpreter, PyTorch and a few copies of the model's 98 MiB. What needs more is killed, and told so.
	leastMemory = units.GiB
	// mostMemory is more than the machines have that GPUs are in.
	mostMemory = 4 * units.TiB
)

// workspaceFolder says which workspace a command is about.
type workspaceFolder struct {
	workspace string
	set       *pflag.FlagSet // all flags of the command
}

// origin names a flag by where its value was written: the command line, a variable or the configuration.
func (f *workspaceFolder) origin(flag string) string {
	if known := f.lookup(flag); known != nil {
		return originOf(known)
	}
	return "--" + flag
}

// written returns a flag and its value as they were written.
func (f *workspaceFolder) written(flag, value string) string {
	if known := f.lookup(flag); known != nil {
		return named(known, value)
	}
	return "--" + flag + " " + value
}

func (f *workspaceFolder) lookup(flag string) *pflag.Flag {
	if f.set == nil { // of a test
		return nil
	}
	return f.set.Lookup(flag)
}

func (f *workspaceFolder) flags(cmd *cobra.Command) {
	f.set = cmd.Flags()
	cmd.Flags().StringVar(&f.workspace, "workspace", owner.DefaultWorkspace, "folder of this project's runs, logs and server")
}

// resolve makes the folder absolute, and refuses one that another user of the host could alter or that holds something else.
func (f *workspaceFolder) resolve() error {
	abs, err := filepath.Abs(f.workspace)
	if err != nil {
		return usagef("", "find the folder %s: %w", f.workspace, err)
	}
	f.workspace = abs
	if err := f.checkWorkspace(); err != nil {
		return err
	}
	return f.refuseFolder("workspace", f.workspace, owner.DefaultWorkspace, owner.CheckWorkspace(f.workspace))
}

func (f *workspaceFolder) checkWorkspace() error {
	err := host.CheckOwn(f.workspace, writable)
	if errors.Is(err, syscall.ENOTDIR) {
		return f.refuseFolder("workspace", f.workspace, owner.DefaultWorkspace, err)
	}
	if err != nil {
		return unsafeFault(err, "the workspace "+f.workspace, "name a folder of your own with --workspace")
	}
	return nil
}

// noCacheFlag lets a command that opens no cache be given the one of the others, as a script gives it to all. It is told that it is not used.
func noCacheFlag(cmd *cobra.Command) {
	cmd.Flags().String("cache-dir", "", "not used")
}

// place says where things are kept.
type place struct {
	workspaceFolder
	cache string
	usual string // the cache, where nobody names one
	doubt string // of the cache
}

func (p *place) flags(a *App, cmd *cobra.Command) {
	p.workspaceFolder.flags(cmd)
	p.usual = a.cacheDir()
	cmd.Flags().StringVar(&p.cache, "cache-dir", p.usual, "folder of what steps made, shared by all workspaces")
}

// resolve does for both folders what that of the workspace does.
func (p *place) resolve() error {
	if err := p.workspaceFolder.resolve(); err != nil {
		return err
	}
	abs, err := filepath.Abs(p.cache)
	if err != nil {
		return usagef("", "find the folder %s: %w", p.cache, err)
	}
	p.cache = abs
	if p.workspace == p.cache {
		return usagef("name two folders", "%s and %s are both %s", p.origin("workspace"), p.origin("cache-dir"), p.cache)
	}
	if err := p.settleCache(); err != nil {
		return err
	}
	return p.refuseFolder("cache-dir", p.cache, "dalirun", store.CheckFolder(p.cache))
}

// folders are both, for who explains what failed in one.
func (p *place) folders() []remedy.Folder {
	return []remedy.Folder{{Path: p.workspace, What: "the workspace", Flag: "--workspace"}, {Path: p.cache, What: "the cache", Flag: "--cache-dir"}}
}

// refuseFolder is err where the flag named the wrong thing. What the machine has against the folder is found out where it is used.
func (f *workspaceFolder) refuseFolder(flag, dir, own string, err error) error {
	switch {
	case errors.Is(err, owner.ErrNotWorkspace), errors.Is(err, store.ErrNotCache):
		return usagef("name a folder of its own, as in --"+flag+" "+filepath.Join(dir, own), "%s: %w", f.origin(flag), err)
	case errors.Is(err, syscall.ENOTDIR):
		return usagef("name a folder, or one that can be made", "%s: %s is no folder", f.origin(flag), dir)
	default:
		return nil
	}
}

// wishes are what a user asks of a run. Much of it may be "auto".
type wishes struct {
	place
	accel, images, precision *choice
	requireGPU               bool
	release, registry        string
	exporterImage            string
	serverImage              string
	baseImage, buildNetwork  string
	weights, image           string
	gpus                     *gpusFlag
	optBatch, maxBatch       *number
	memory                   *memorySize
	http, grpc, metrics      *number
	readyTimeout             time.Duration
	force                    []string
	verify                   steps.Picture // what --image names, once it is read
	command                  string        // that these are wishes of
	serves                   bool          // the run starts a server, which one on another host cannot: what the command is, not a flag
	stays                    bool          // that server is the workspace's, of which there is one
}

func (w *wishes) flags(a *App, cmd *cobra.Command) {
	w.place.flags(a, cmd)
	w.accel = &choice{"auto", []string{"auto", string(steps.GPU), string(steps.CPU)}}
	w.images = &choice{"auto", []string{"auto", string(steps.NGC), string(steps.Local)}}
	w.precision = &choice{string(release.FP16), []string{string(release.FP16), string(release.FP32)}}
	w.optBatch, w.maxBatch = &number{0, 0, 256}, &number{256, 1, 256}
	w.memory = &memorySize{steps.DefaultMemory, leastMemory, mostMemory}
	w.http, w.grpc, w.metrics = &number{0, 0, 65535}, &number{0, 0, 65535}, &number{0, 0, 65535}
	w.gpus = &gpusFlag{container.GPUs{Count: container.AllGPUs}}
	f := cmd.Flags()
	w.command = cmd.Name()
	f.Var(w.accel, "accel", "hardware of the whole run; auto is the GPU if there is one")
	f.BoolVar(&w.requireGPU, "require-gpu", false, "fail rather than run without a GPU")
	f.Var(w.images, "images", "NVIDIA's images, or small ones built here; auto is ngc on the gpu lane, local on the cpu lane")
	f.StringVar(&w.release, "release", "", "NGC release, as in 25.03 (default the newest that this host can run)")
	f.StringVar(&w.registry, "registry", release.DefaultRegistry, "HOST or HOST/PREFIX that has nvidia/pytorch and nvidia/tritonserver")
	f.StringVar(&w.exporterImage, "exporter-image", "", "image with PyTorch, of any name, instead of the release's")
	f.StringVar(&w.serverImage, "server-image", "", "image with tritonserver, of any name, instead of the release's; its environment says its release")
	f.StringVar(&w.baseImage, "base-image", "", "Debian 12 image under the local images (default "+baseImage+", or "+steps.MadeBaseImage+" if only that is here)")
	f.StringVar(&w.buildNetwork, "build-network", "host", "network of local image builds; empty is the container engine's default")
	f.StringVar(&w.weights, "weights", "pretrained", "pretrained, auto, random:SEED or FILE.pth; auto falls back to random:0")
	f.StringVar(&w.image, "image", "", "picture to verify with, no orientation applied (default a cup of coffee that dalirun carries)")
	f.Lookup("build-network").Annotations = map[string][]string{mayBeEmpty: {"true"}}
	f.Var(w.precision, "precision", "arithmetic of the engine (gpu lane)")
	f.Var(w.optBatch, "opt-batch", "batch size that the engine is tuned for; 0 is the default: 64, or --max-batch if that is smaller, and 1 with release 21.07, as in the tutorial")
	f.Var(w.maxBatch, "max-batch", "largest batch size")
	f.Var(w.memory, "memory", "memory limit of each container of a run, the server's too; image builds have none")
	f.Var(w.gpus, "gpus", "GPUs as in docker run --gpus: all, 2, device=0,1 or device=UUID")
	f.Var(w.http, "http-port", "host port for HTTP; 0 is 8000 if it is free, else a free one")
	f.Var(w.grpc, "grpc-port", "host port for gRPC; 0 is 8001 if it is free, else a free one")
	f.Var(w.metrics, "metrics-port", "host port for metrics; 0 is 8002 if it is free, else a free one")
	f.DurationVar(&w.readyTimeout, "ready-timeout", 5*time.Minute, "how long tritonserver may take to be live, and each model to load")
	f.StringSliceVar(&w.force, "force", nil, "steps to run again although their results are stored; \"all\" is every one")
}

// reads are the files that a run with these wishes reads, by what names them. One that is not there is among them.
func (w *wishes) reads() map[string]string {
	files := map[string]string{configFile: configFile, "--weights": w.weights}
	if w.image != "" {
		files["--image"] = w.image
	}
	return files
}

// readPicture reads and checks the picture to verify with.
func (w *wishes) readPicture(ctx context.Context, in *input) (err error) {
	if w.image == "" {
		w.verify, err = steps.Sample()
		return err
	}
	read, info, err := in.picture(ctx, w.image)
	if err == nil && info.Unverifiable != "" {
		err = usagef("verify with another picture; `dalirun classify` sends this one", "%s cannot be verified with: %s", read.Name, info.Unverifiable)
	}
	if err != nil {
		return err
	}
	w.verify = read
	return nil
}
