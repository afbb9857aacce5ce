package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/config"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/flagvalue"
	"github.com/dalirun/dalirun/internal/folders"
	"github.com/dalirun/dalirun/internal/lock"
	"github.com/dalirun/dalirun/internal/recipe"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

const (
	// leastMemory leaves room for an interpreter, PyTorch and a few copies of the model's 98 MiB. What needs more is
	// killed, and told so.
	leastMemory = units.GiB
	// leastShm is the container engine's default, and what older Tritons take for one instance of a Python model.
	leastShm = 64 * units.MiB
)

// runFlags are the flags of a command that runs steps, or says what a run would be.
type runFlags struct {
	folderFlags
	request target.Request
	folders folders.Folders // once they are checked
	record  recordFlags     // of a command that can keep its run

	weights string       // as it is written
	image   string       // as it is written
	lock    string       // as it is written
	memory  int64        // limit of each container, in bytes
	shm     int64        // size of the server's /dev/shm, in bytes
	force   steps.Forced // as they are written
	gpuWait time.Duration
}

func (r *runFlags) flags(a *App, cmd *cobra.Command) {
	r.folderFlags.flags(a, cmd)
	q := &r.request
	*q = target.Request{
		Command: cmd.Name(), Accel: target.Auto, Images: target.Auto, GPUs: container.GPUs{Count: container.AllGPUs},
		Precision: release.FP16, MaxBatch: 256,
	}
	r.memory, r.shm = steps.DefaultMemory, steps.DefaultShm
	f := cmd.Flags()
	f.Var(flagvalue.Choice(&q.Accel, target.Auto, string(target.GPU), string(target.CPU)), "accel",
		"hardware of the whole run; auto is the GPU if there is one")
	f.BoolVar(&q.RequireGPU, "require-gpu", false, "fail rather than run without a GPU")
	f.Var(flagvalue.Choice(&q.Images, target.Auto, string(target.NGC), string(target.Local)), "images",
		"NVIDIA's images, or small ones built here; auto is ngc on the gpu lane, local on the cpu lane")
	f.StringVar(&q.Release, "release", "", "NGC release, as in 25.03 (default the newest that this host can run)")
	f.StringVar(&q.Registry, "registry", release.DefaultRegistry,
		"HOST or HOST/PREFIX that has nvidia/pytorch and nvidia/tritonserver")
	f.StringVar(&q.ExporterImage, "exporter-image", "", "image with PyTorch, of any name, instead of the release's")
	f.StringVar(&q.ServerImage, "server-image", "",
		"image with tritonserver, of any name, instead of the release's; its environment says its release")
	f.StringVar(&q.BaseImage, "base-image", "",
		"Debian 12 image under the local images (default "+target.UsualBaseImage+
			", or "+target.MadeBaseImage+" if only that is here)")
	f.StringVar(&q.BuildNetwork, "build-network", "host",
		"network of local image builds; empty is the container engine's default")
	f.Lookup("build-network").Annotations = map[string][]string{mayBeEmpty: {"true"}}
	f.StringVar(&r.lock, "lock", "", "lock to keep to, or "+target.NoLock+
		" (default "+lock.File+" in the current folder, if it is there)")
	f.BoolVar(&q.Lock.Frozen, "frozen", false, "refuse a run that differs from its lock, or that has none")
	known, _ := recipe.Shipped() // whose error a run tells
	f.StringVar(&q.Model, "model", recipe.Default, "what is built and served: "+strings.Join(known, ", "))
	f.StringVar(&r.weights, "weights", string(target.Pretrained),
		"pretrained, auto, random:SEED or FILE.pth; auto falls back to random:0")
	f.StringVar(&r.image, "image", "",
		"picture to verify with, no orientation applied (default a cup of coffee that dalirun carries)")
	f.Var(flagvalue.Choice(&q.Precision, release.FP16, release.FP32), "precision",
		"arithmetic of the engine (gpu lane)")
	f.Var(flagvalue.Int(&q.OptBatch, 0, 256), "opt-batch",
		"batch size that the engine is tuned for; 0 is the default: 64, or --max-batch if that is smaller, "+
			"and 1 with release 21.07, as in the tutorial")
	f.Var(flagvalue.Int(&q.MaxBatch, 1, 256), "max-batch", "largest batch size")
	f.Var(flagvalue.Serving(&q.Serving), config.Section,
		"what the server has of the hardware, in "+config.File+" a map of "+strings.Join(flagvalue.ServingKeys(), ", "))
	f.Var(flagvalue.Bytes(&r.memory, leastMemory, flagvalue.MostMemory), "memory",
		"memory limit of each container of a run, the server's too; image builds have none")
	f.Var(flagvalue.Bytes(&r.shm, leastShm, flagvalue.MostMemory), "shm-size",
		"shared memory (/dev/shm) of the server, for the tensors of Python models; what is used counts as memory")
	f.Var(flagvalue.GPUs(&q.GPUs), "gpus", "GPUs as in docker run --gpus: all, 2, device=0,1 or device=UUID")
	f.Var(flagvalue.Address(&q.Host), "host",
		"address to publish the server on, which has no authentication (default 127.0.0.1)")
	f.Var(flagvalue.Int(&q.HTTPPort, 0, 65535), "http-port",
		"host port for HTTP; 0 is 8000 if it is free, else a free one")
	f.Var(flagvalue.Int(&q.GRPCPort, 0, 65535), "grpc-port",
		"host port for gRPC; 0 is 8001 if it is free, else a free one")
	f.Var(flagvalue.Int(&q.MetricsPort, 0, 65535), "metrics-port",
		"host port for metrics; 0 is 8002 if it is free, else a free one")
	f.DurationVar(&q.ReadyTimeout, "ready-timeout", 5*time.Minute,
		"how long tritonserver may take to be live, and each model to load")
	gpuWaitFlag(cmd, &r.gpuWait)
	f.StringSliceVar((*[]string)(&r.force), "force", nil,
		"steps to run again although their results are stored; \"all\" is every one")
}

// check finds the folders, and does what checkRequest does.
func (r *runFlags) check(ctx context.Context) (err error) {
	if r.folders, err = r.find(ctx); err != nil {
		return err
	}
	return r.checkRequest()
}

// checkRequest refuses a request that is wrong on every machine, and completes it by what the flags name.
func (r *runFlags) checkRequest() (err error) {
	r.request.Settings, r.request.Workspace = settingsOf(r.set), r.folders.Workspace
	if err := r.request.Check(); err != nil {
		return err
	}
	if r.request.Weights, err = steps.ParseWeights(r.weights, r.request.Settings); err != nil {
		return err
	}
	if r.shm > r.memory {
		s := r.request.Settings
		return pipeline.Usagef("lower it, or raise --memory", "%s is larger than %s, and what it holds counts as memory",
			s.Written("shm-size", flagvalue.WriteBytes(r.shm)), s.Written("memory", flagvalue.WriteBytes(r.memory)))
	}
	return r.force.Check(r.request)
}

// reads are the files that a run with these flags reads, by what names them. One that is not there is among them.
func (r *runFlags) reads() map[string]string {
	files := map[string]string{config.File: config.File, lock.File: lock.File, "--weights": r.weights}
	if r.lock != "" {
		files["--lock"] = r.lock
	}
	if r.image != "" {
		files["--image"] = r.image
	}
	return files
}

// readPicture reads and checks the picture to verify with.
func (r *runFlags) readPicture(ctx context.Context, files *userfile.Reader) (err error) {
	if r.image == "" {
		r.request.Picture, err = steps.Sample()
		return err
	}
	data, info, err := files.Picture(ctx, r.image)
	r.request.Picture = target.Picture{Name: userfile.Shown(r.image), Data: data}
	if err == nil && info.Unverifiable != "" {
		err = pipeline.Usagef("verify with another picture; `dalirun classify` sends this one",
			"%s cannot be verified with: %s", r.request.Picture.Name, info.Unverifiable)
	}
	return err
}

// readLock reads the lock to keep to, if there is one.
func (r *runFlags) readLock(ctx context.Context, files *userfile.Reader) (err error) {
	s := r.request.Settings
	if r.lock == target.NoLock {
		if r.request.Lock.Frozen {
			return pipeline.Usagef("drop one of them", "%s and %s exclude each other", s.Written("lock", r.lock),
				s.Written("frozen", "true"))
		}
		return nil
	}
	locked, err := r.findLock(ctx, files)
	if err != nil || locked == nil {
		return err
	}
	r.request.Lock.Lock = locked
	r.request.Lock.File, err = folders.Absolute(r.lockFile())
	return err
}

// lockFile is the name of the lock's file, whether it is there or not.
func (r *runFlags) lockFile() string { return cmp.Or(r.lock, lock.File) }

// isThere says whether there is a file of a name, or anything else.
func isThere(name string) (bool, error) {
	_, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// findLock reads the lock of the flags; nil if none is named and there is none.
func (r *runFlags) findLock(ctx context.Context, files *userfile.Reader) (*lock.Lock, error) {
	name := r.lockFile()
	if r.lock == "" {
		if there, err := isThere(name); err != nil || !there {
			return nil, err
		}
		path, err := folders.Absolute(name)
		if err != nil {
			return nil, err
		}
		// It says which images are run.
		if err := folders.CheckOwn(path, "the lock "+path, "run dalirun in a folder of your own"); err != nil {
			return nil, err
		}
	}
	data, err := files.Read(ctx, name, lock.MaxBytes)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, userfile.ErrTooLong):
		return nil, pipeline.Usagef("name a file that `dalirun lock` wrote", "%s is larger than %s, too large for a lock",
			userfile.Shown(name), bytesize.Format(lock.MaxBytes))
	case err != nil:
		return nil, fmt.Errorf("read the lock %s: %w", userfile.Shown(name), err)
	}
	locked, err := lock.Parse(userfile.Shown(name), data)
	if err != nil {
		return nil, err
	}
	return &locked, nil
}

// settingsOf are the flags of a command that were named, wherever.
func settingsOf(flags *pflag.FlagSet) target.Settings {
	var settings target.Settings
	flags.Visit(func(f *pflag.Flag) {
		if f.Annotations[aliasOf] != nil {
			return
		}
		settings = append(settings, settingOf(f))
	})
	return settings
}

// settingOf is a flag that was named.
func settingOf(f *pflag.Flag) target.Setting {
	value := f.Value.String()
	if several, ok := f.Value.(pflag.SliceValue); ok {
		value = strings.Join(several.GetSlice(), ",")
	}
	s := target.Setting{Flag: f.Name, Value: value, Switch: f.NoOptDefVal == value && value != ""}
	if from := f.Annotations[origin]; len(from) > 0 {
		s.From = from[0]
	}
	return s
}

// origin is the annotation of a flag whose value was not written as the flag itself: the variable, the file or the
// alias that it is from.
const origin = "origin"
