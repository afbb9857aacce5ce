package steps

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/prototext"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/fsync"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/triton"
	"github.com/dalirun/dalirun/triton/pb"
)

// candidateMark is between a model's name and the number of a candidate.
const candidateMark = "_candidate"

// candidates are the models of a model repository under other names, beside those that a server serves.
//
// Triton 2.51 answers from a new version of a model as soon as it is loaded, and an ensemble at once from the new
// version of its parts; the configuration is the model's, and not the version's. So what is new is loaded under names
// of its own, as an ensemble of its own, and replaces what is served only when it is proven.
type candidates struct {
	folder string   // the served repository
	models []string // in the order in which they load; the ensemble is the last one
	suffix string   // of the candidates' names
	limit  time.Duration

	// changing says that what is served has begun to change, and that this has neither ended nor was taken back: nobody
	// knows then from which models the ensemble answers.
	changing bool
}

// configMode lets the server's user read a configuration.
const configMode = 0o644

// newCandidates returns those of models whose names no folder in the served repository has.
func newCandidates(folder string, models []string, limit time.Duration) (*candidates, error) {
	c := &candidates{folder: folder, models: models, limit: limit}
	for n := 1; ; n++ {
		c.suffix = fmt.Sprint(candidateMark, n)
		_, err := os.Lstat(filepath.Join(folder, c.names()[0]))
		if errors.Is(err, fs.ErrNotExist) {
			return c, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// names are those of the candidates, in the order in which they load.
func (c *candidates) names() []string {
	names := make([]string, len(c.models))
	for i, m := range c.models {
		names[i] = m + c.suffix
	}
	return names
}

func (c *candidates) ensemble() string { return c.models[len(c.models)-1] }

// take puts the models of a model repository in the cache beside those that are served.
func (c *candidates) take(ctx context.Context, repository string) error {
	for _, m := range c.models {
		folder := filepath.Join(c.folder, m+c.suffix)
		if err := owner.Mirror(ctx, filepath.Join(repository, m), folder); err != nil {
			return err
		}
		if err := c.configure(repository, m, m+c.suffix); err != nil {
			return err
		}
	}
	return nil
}

// configure writes the configuration that a model has in repository as that of the model name in the served repository.
// An ensemble's parts are the candidates.
func (c *candidates) configure(repository, model, name string) error {
	config, err := readConfiguration(filepath.Join(repository, model, configFile))
	if err != nil {
		return err
	}
	config.Name = name
	for _, step := range config.GetEnsembleScheduling().GetStep() {
		step.ModelName += c.suffix
	}
	text, err := prototext.Marshal(config)
	if err != nil {
		return fmt.Errorf("write the configuration of %s: %w", name, err)
	}
	return fsync.WriteFile(c.configuration(name), text, configMode)
}

// configuration is the path of the configuration of a model of the served repository.
func (c *candidates) configuration(model string) string {
	return filepath.Join(c.folder, model, configFile)
}

// liveServer is a server that goes on answering while its models are replaced.
type liveServer struct {
	container container.Container
	client    *triton.Client
}

// refresh has the server see what the folder of a model is now.
func (c *candidates) refresh(ctx context.Context, server liveServer, model string) error {
	return server.container.Refresh(ctx, container.Mount{
		Source: filepath.Join(c.folder, model), Target: path.Join(repositoryTarget, model),
	})
}

// load loads one model as it is in its folder, which may take the limit.
func (c *candidates) load(ctx context.Context, server liveServer, model string) error {
	if err := c.refresh(ctx, server, model); err != nil {
		return err
	}
	late := pipeline.Faultf(pipeline.NotReady, lateHint, "model %s is still loading after %s", model, c.limit)
	ctx, cancel := context.WithTimeoutCause(ctx, c.limit, late)
	defer cancel()
	if err := server.client.Load(ctx, model); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return pipeline.Faultf(pipeline.NotReady, "", "%w", err)
	}
	return nil
}

// replace puts the candidates, which are loaded and proven, in the place of what is served. No answer is of both: the
// ensemble first answers from the candidates, then its own models are loaded anew, which nothing uses meanwhile but who
// asks for them by name, and then it answers from these. A load that fails leaves what answered before.
func (c *candidates) replace(ctx context.Context, server liveServer, repository string) error {
	before, err := os.ReadFile(c.configuration(c.ensemble()))
	if err != nil {
		return err
	}
	if err := c.configure(repository, c.ensemble(), c.ensemble()); err != nil {
		return err
	}
	c.changing = true
	if err := c.load(ctx, server, c.ensemble()); err != nil {
		return errors.Join(err, c.restore(ctx, server, before))
	}
	return c.loadAnew(ctx, server, repository)
}

// restore gives the ensemble its configuration of before, after a load that failed or was late. Triton 2.51 unloads an
// ensemble one of whose parts is gone, so the old one is loaded again.
func (c *candidates) restore(ctx context.Context, server liveServer, before []byte) error {
	err := fsync.WriteFile(c.configuration(c.ensemble()), before, configMode)
	if err == nil {
		err = c.load(ctx, server, c.ensemble())
	}
	c.changing = err != nil
	return err
}

// loadAnew loads the models under their own names from a model repository in the cache, one after another.
func (c *candidates) loadAnew(ctx context.Context, server liveServer, repository string) error {
	c.changing = true
	for _, m := range c.models {
		if err := owner.Mirror(ctx, filepath.Join(repository, m), filepath.Join(c.folder, m)); err != nil {
			return err
		}
		if err := c.load(ctx, server, m); err != nil {
			return err
		}
	}
	c.changing = false
	return nil
}

// remove takes candidates out of service, of this reload and of those that were killed, but for those from which the
// ensemble answers. It makes no request if there are none.
func (c *candidates) remove(ctx context.Context, server liveServer) error {
	if c.changing {
		return nil
	}
	ensemble, err := readConfiguration(c.configuration(c.ensemble()))
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for _, step := range ensemble.GetEnsembleScheduling().GetStep() {
		used[step.GetModelName()] = true
	}
	entries, err := os.ReadDir(c.folder)
	if err != nil {
		return err
	}
	var errs []error
	for _, model := range slices.Backward(c.models) { // an ensemble before its parts
		for _, entry := range entries {
			number, found := strings.CutPrefix(entry.Name(), model+candidateMark)
			if !found || strings.Trim(number, "0123456789") != "" || used[entry.Name()] {
				continue
			}
			if err := server.client.Unload(ctx, entry.Name()); err != nil {
				errs = append(errs, err)
				continue
			}
			errs = append(errs, c.removeFolder(ctx, server, entry.Name()))
		}
	}
	return errors.Join(errs...)
}

// removeFolder removes the folder of a model that is not loaded. A server with a copy of it keeps an empty file in its
// place, which Triton does not take for a model. Until it has that, so has this host: the next call finds it.
func (c *candidates) removeFolder(ctx context.Context, server liveServer, model string) error {
	folder := filepath.Join(c.folder, model)
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	if err := os.WriteFile(folder, nil, configMode); err != nil {
		return err
	}
	if err := c.refresh(ctx, server, model); err != nil {
		return err
	}
	return os.Remove(folder)
}

// readConfiguration reads a config.pbtxt.
func readConfiguration(file string) (*pb.ModelConfig, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return parseConfiguration(file, text)
}
