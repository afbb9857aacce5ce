package serving

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/pipeline"
)

// Pins keep entries of the cache for workspaces.
type Pins interface {
	// Pin keeps the entry that path is in for a workspace, and then calls point, which makes a record lead into it.
	Pin(ctx context.Context, path, workspace string, point func() error) error
}

// Repository is what a workspace has of model repositories: the record of what was built last, and the served
// repository.
type Repository struct {
	Servers   Servers
	Workspace string
	Pins      Pins
}

// Keep records what was built, and returns the folder that has it. That is the served repository, unless a server runs:
// it goes on serving what it has there, and what was built is in the cache alone. Whoever is to serve it is warned.
func (r Repository) Keep(ctx context.Context, built owner.Built) (folder string, err error) {
	folder = owner.RepositoryPath(r.Workspace)
	err = r.change(ctx, func() error {
		if err := r.record(ctx, built); err != nil {
			return err
		}
		server, served, err := r.Servers.Served(ctx, r.Workspace)
		if err != nil {
			return err
		}
		if !served {
			return owner.TakeRepository(ctx, r.Workspace, built.Repository)
		}
		if built.Repository != server.Repository {
			folder = built.Repository
		}
		if built.ServesAnother(server) {
			r.Servers.warn("the server of this workspace goes on serving what it has, in " + owner.RepositoryPath(r.Workspace) +
				": `" + TakeCommand(r.Workspace, server, built) + "` has it serve this")
		}
		return nil
	})
	return folder, err
}

// Take records what was built, and makes it what the workspace's next server serves, from the folder that it returns.
func (r Repository) Take(ctx context.Context, built owner.Built) (folder string, err error) {
	return owner.RepositoryPath(r.Workspace), r.change(ctx, func() error {
		if err := r.record(ctx, built); err != nil {
			return err
		}
		return owner.TakeRepository(ctx, r.Workspace, built.Repository)
	})
}

// change calls do while no other process changes what is recorded as built, or what is served.
func (r Repository) change(ctx context.Context, do func() error) error {
	lock, err := lockRepository(ctx, r.Workspace)
	if err != nil {
		return err
	}
	return errors.Join(do(), lock.Release())
}

// record records what was built, and keeps it in the cache until something else is.
func (r Repository) record(ctx context.Context, built owner.Built) error {
	return r.Pins.Pin(ctx, built.Repository, r.Workspace, func() error { return owner.WriteBuilt(r.Workspace, built) })
}

// Replaceable returns the workspace's server and what is recorded of it, if it is healthy and what was built can
// replace what it serves. The error is a fault of [pipeline.NotReady] if no healthy server runs, and of
// [pipeline.Environment] if only another server can serve what was built.
func (r Repository) Replaceable(
	ctx context.Context, built owner.Built,
) (server Container, file owner.ServerFile, err error) {
	if server, err = r.Servers.Running(ctx, r.Workspace); err != nil {
		return server, file, err
	}
	health, err := r.Servers.Judge(ctx, server)
	if err != nil {
		return server, file, err
	}
	if !health.OK() {
		return server, file, pipeline.Faultf(pipeline.NotReady, health.Hint(), "the server %s is %s", server.Name, health)
	}
	if file, err = server.File(); err != nil {
		return server, file, err
	}
	if differences := built.ServerDifferences(file); built.ServesAnother(file) && len(differences) > 0 {
		words := make([]string, len(differences))
		for i, d := range differences {
			words[i] = d.String()
		}
		return server, file, pipeline.Faultf(pipeline.Environment, RestartHint(r.Workspace),
			"the server %s cannot serve what was built: %s", server.Name, strings.Join(words, ", "))
	}
	return server, file, nil
}

// Replacing notes that a reload is replacing what the server of a file serves by what was built or, off again, that the
// file is as it was.
func (r Repository) Replacing(file owner.ServerFile, built owner.Built, on bool) error {
	if on {
		file.Reloading = append(slices.Clone(file.Reloading), built.Weights)
	}
	return owner.UpdateServer(r.Workspace, file)
}

// ExplainStop returns what explains the errors of a reload that begins now. Once somebody stops its server on purpose,
// each is one fault of [pipeline.NotReady]: what a reload meets with then is a consequence, and says nothing of the
// models. A stop that was noted before did not end the server, which is healthy, and explains nothing.
func (r Repository) ExplainStop(server Container, explain func(error) error) func(error) error {
	before := owner.StopNoted(r.Workspace, server.Run())
	stopped := pipeline.Faultf(pipeline.NotReady, "`"+CommandIn(r.Workspace, "serve")+"` serves what was built",
		"the server %s was stopped meanwhile", server.Name)
	return func(err error) error {
		if !before && owner.StopNoted(r.Workspace, server.Run()) {
			return stopped
		}
		return explain(err)
	}
}

// Replaced records that the server of a file serves what was built, from a model repository in the cache: it may have
// been made anew, with other contents.
func (r Repository) Replaced(ctx context.Context, file owner.ServerFile, built owner.Built, repository string) error {
	now := file
	now.Reloading, now.Served = nil, built.Served
	now.Command, now.Repository = StartAgain(file, built), repository
	return r.change(context.WithoutCancel(ctx), func() error {
		last, err := owner.ReadBuilt(r.Workspace)
		if err == nil && last.Run == built.Run && last.Repository != repository {
			last.Repository = repository
			err = r.record(ctx, last)
		}
		return errors.Join(err, owner.UpdateServer(r.Workspace, now))
	})
}

// HandOver makes a detached server the workspace's, and calls announce, which says where it is. One that cannot be told
// of is none: who started it would not know that it runs, and its run stops it.
func HandOver(workspace string, server owner.ServerFile, announce func() error) error {
	if err := owner.WriteServer(workspace, server); err != nil {
		return err
	}
	err := announce()
	if err != nil {
		err = errors.Join(err, owner.RemoveServer(workspace))
	}
	return err
}

// NoteEnd notes that a server in the foreground has ended. A reload may have changed what it served.
func NoteEnd(workspace string, server owner.ServerFile) error {
	if now, err := owner.ServerOf(workspace, server.Run); err == nil {
		server = now
	}
	server.Ended = time.Now().UTC()
	return owner.NoteServer(workspace, server)
}
