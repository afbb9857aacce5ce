//go:build integration

package integration

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/filters"
	dimage "github.com/docker/docker/api/types/image"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/docker"
	"github.com/dalirun/dalirun/internal/lock"
	"github.com/dalirun/dalirun/internal/registry/registrytest"
)

const (
	pytorch2503Name = "nvidia/pytorch:25.03-py3"
	triton2503Name  = "nvidia/tritonserver:25.03-py3"
)

// locked is a project whose images are in a registry of this process, from which the machine's container engine pulls:
// of 127.0.0.1 it takes HTTP.
type locked struct {
	engine   engine
	stubs    stubs
	registry *registrytest.Server
	opts     opts
	flags    []string
}

func newLocked(t *testing.T) locked {
	t.Helper()
	e := mainEngine(t)
	l := locked{engine: e, stubs: newStubs(t, e), registry: registrytest.New(t), opts: opts{Dir: t.TempDir()}}
	l.flags = []string{"--accel", "cpu", "--images", "ngc", "--registry", l.registry.Host(), "--weights", "random:0"}
	t.Cleanup(func() { l.forget(t) })
	l.push(t, pytorch2503Name, "opt/tensorrt/bin/trtexec", pytorch2503)
	l.push(t, triton2503Name, "opt/tritonserver/bin/tritonserver", triton2503)
	return l
}

// push makes a tag stand for an index of a stub for this machine and of an image for arm64 that nobody can pull.
func (l locked) push(t *testing.T, name, program string, env []string) {
	t.Helper()
	path := "PATH=/" + filepath.Dir(program) + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	l.registry.Push(t, name, registrytest.Image{
		Arch: "amd64", Env: append(slices.Clone(env), path), Entrypoint: []string{"/opt/nvidia/nvidia_entrypoint.sh"},
		Whole: [][]byte{l.stubs.layer(t, []string{program})},
	}, registrytest.Image{Arch: "arm64", Layers: []int64{7}})
}

// forget removes the registry's images from the engine, and so their layers.
func (l locked) forget(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	c := l.engine.client(t)
	images, err := c.ImageList(ctx, dimage.ListOptions{Filters: filters.NewArgs(filters.Arg("reference", l.registry.Host()+"/*/*"))})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(images, func(a, b dimage.Summary) int { return int(b.Created - a.Created) }) // what stands on another first
	for _, image := range images {
		if _, err := c.ImageRemove(ctx, image.ID, dimage.RemoveOptions{Force: true, PruneChildren: true}); err != nil {
			t.Error(err)
		}
	}
}

// run runs a command with the flags of the project.
func (l locked) run(t *testing.T, want int, command string, further ...string) result {
	t.Helper()
	return mustRun(t, want, l.engine, l.opts, slices.Concat([]string{command}, l.flags, further)...)
}

// lock is the lock of the project.
func (l locked) lock(t *testing.T) lock.Lock {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(l.opts.Dir, lock.File))
	if err != nil {
		t.Fatal(err)
	}
	read, err := lock.Parse(lock.File, text)
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// byTag are the requests for manifests by their tags, since there were so many requests.
func (l locked) byTag(since int) []string {
	return slices.DeleteFunc(l.registry.Requests()[since:], func(r string) bool {
		return !strings.Contains(r, "/manifests/") || strings.Contains(r, "/manifests/sha256:")
	})
}

// A project's lock: with it every pull is by digest, a tag that is moved changes nothing, a frozen run differs in nothing,
// and what is deleted from the registry has a name.
//
//nolint:tparallel // one after another
func TestLock(t *testing.T) {
	t.Parallel()
	l := newLocked(t)
	_ = t.Run("lock", l.testLock) && t.Run("run", l.testRun) && t.Run("build", l.testBuild) && t.Run("moved tag", l.testMovedTag) &&
		t.Run("frozen", l.testFrozen) && t.Run("deleted blob", l.testDeletedBlob) && t.Run("deleted manifest", l.testDeletedManifest) &&
		t.Run("update", l.testUpdate) // each goes on from the one before, and none is run after one that failed
}

func (l locked) testLock(t *testing.T) {
	l.run(t, 0, "lock", "--release", "25.03")
	written := l.lock(t)
	for role, name := range map[string]string{lock.Exporter: pytorch2503Name, lock.Server: triton2503Name} {
		manifest, _ := l.registry.Parts(t, name, "amd64")
		image := written.Images[role]
		if image.Ref != l.registry.Host()+"/"+name || string(image.Digest) != l.registry.Digest(t, name) || string(image.Platforms["linux/amd64"]) != manifest || len(image.Platforms) != 2 {
			t.Errorf("of %s the lock has %+v", name, image)
		}
	}
	for _, r := range l.registry.Requests() {
		if strings.Contains(r, "/blobs/") && strings.HasPrefix(r, "GET ") && strings.HasSuffix(r, layerOf(t, l, triton2503Name)) {
			t.Errorf("an image was pulled for it: %s", r)
		}
	}
	l.run(t, 2, "lock", "--release", "25.03").says(t, "dalirun.lock is there already", "dalirun lock --update")
	l.run(t, 0, "plan", "--frozen")
}

// layerOf is the digest of the layer of an image that is whole.
func layerOf(t *testing.T, l locked, name string) string {
	t.Helper()
	_, blobs := l.registry.Parts(t, name, "amd64")
	return blobs[1]
}

func (l locked) testRun(t *testing.T) {
	since := len(l.registry.Requests())
	out := read(t, l.opts, l.run(t, 0, "e2e", "--frozen", "--format", "json"))
	if got := out.Digests["server-image/image"]; got != string(l.lock(t).Images[lock.Server].Digest) || out.Release != "25.03" {
		t.Errorf("it ran %s of release %s", got, out.Release)
	}
	if asked := l.byTag(since); len(asked) > 0 {
		t.Errorf("a run with a lock asked for tags: %q", asked)
	}
	if pulled := slices.ContainsFunc(l.registry.Requests()[since:], func(r string) bool { return strings.Contains(r, "/blobs/"+layerOf(t, l, triton2503Name)) }); !pulled {
		t.Error("the server image was not pulled")
	}
}

// testMovedTag has a tag that stands for another server now.
func (l locked) testMovedTag(t *testing.T) {
	before := l.lock(t).Images[lock.Server]
	l.push(t, triton2503Name, "opt/tritonserver/bin/tritonserver", append(slices.Clone(triton2503), "STUB_OTHER=moved"))
	moved := l.registry.Digest(t, triton2503Name)
	if moved == string(before.Digest) {
		t.Fatalf("the tag is still %s", moved)
	}
	l.forget(t)
	since := len(l.registry.Requests())
	out := read(t, l.opts, l.run(t, 0, "e2e", "--frozen", "--format", "json"))
	if got := out.Digests["server-image/image"]; got != string(before.Digest) {
		t.Errorf("it ran %s, and the lock has %s", got, before.Digest)
	}
	if asked := l.byTag(since); len(asked) > 0 {
		t.Errorf("a run with a lock asked for tags: %q", asked)
	}
	without := read(t, l.opts, l.run(t, 0, "e2e", "--lock", "none", "--release", "25.03", "--format", "json"))
	if got := without.Digests["server-image/image"]; got != moved {
		t.Errorf("without the lock it ran %s, and the tag is %s", got, moved)
	}
}

func (l locked) testFrozen(t *testing.T) {
	file := filepath.Join(l.opts.Dir, lock.File)
	for _, command := range []string{"plan", "setup", "e2e"} {
		flags := slices.Replace(slices.Clone(l.flags), len(l.flags)-1, len(l.flags), "random:7")
		r := mustRun(t, 3, l.engine, l.opts, slices.Concat([]string{command}, flags, []string{"--frozen"})...)
		r.says(t, "--frozen: the run is not that of "+file, "weights seed: 0 → 7", "dalirun lock --update")
	}
	l.run(t, 3, "e2e", "--frozen", "--exporter-image", l.registry.Host()+"/"+triton2503Name).says(t, "image exporter ref: ")
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	l.run(t, 3, "e2e", "--frozen").says(t, "there is no dalirun.lock", "dalirun lock` writes one")
	if err := os.Rename(file+".away", file); err != nil {
		t.Fatal(err)
	}
}

func (l locked) testDeletedBlob(t *testing.T) {
	l.forget(t)
	was := l.lock(t).Images[lock.Server]
	layer := layerOf(t, l, triton2503Name) // both servers have this one
	l.registry.Delete(t, "nvidia/tritonserver", "blobs", layer)
	l.run(t, 3, "e2e", "--frozen").says(t, "server-image failed after", string(was.Digest), "the registry has lost "+layer, "dalirun lock --update", "--registry")
}

func (l locked) testDeletedManifest(t *testing.T) {
	was := l.lock(t).Images[lock.Server]
	manifest := string(was.Platforms["linux/amd64"])
	l.registry.Delete(t, "nvidia/tritonserver", "manifests", manifest)
	l.run(t, 3, "e2e", "--frozen").says(t, "the registry has lost "+manifest, "dalirun lock --update")
	fresh := l
	fresh.opts.Home = t.TempDir() // whose cache has not seen the image: it is looked up before the pull
	fresh.run(t, 3, "plan").says(t, "the registry has lost "+manifest)
	l.registry.Delete(t, "nvidia/tritonserver", "manifests", string(was.Digest))
	for _, l := range []locked{l, fresh} {
		l.run(t, 3, "e2e", "--frozen").says(t, "its digest in "+filepath.Join(l.opts.Dir, lock.File)+", "+string(was.Digest)+", is not in its registry any more", "dalirun lock --update")
	}
}

// testUpdate mends the lock by what the tag is now.
func (l locked) testUpdate(t *testing.T) {
	l.push(t, triton2503Name, "opt/tritonserver/bin/tritonserver", append(slices.Clone(triton2503), "STUB_OTHER=yes"))
	r := l.run(t, 0, "lock", "--update")
	if !strings.Contains(r.Stdout, "image server digest: sha256:") || !strings.Contains(r.Stdout, "dalirun.lock: 2 facts changed") {
		t.Errorf("it says:\n%s", r.Stdout)
	}
	out := read(t, l.opts, l.run(t, 0, "e2e", "--frozen", "--format", "json"))
	if got := out.Digests["server-image/image"]; got != l.registry.Digest(t, triton2503Name) {
		t.Errorf("it ran %s", got)
	}

	// The next one is proven: what both are is built, served and compared, and nothing of it stays.
	l.push(t, triton2503Name, "opt/tritonserver/bin/tritonserver", append(slices.Clone(triton2503), "STUB_OTHER=again"))
	text := l.run(t, 0, "lock", "--update", "--prove").Stdout
	for _, want := range []string{
		"# Renew dalirun.lock\n", "| image server digest | sha256:", "| verdict | passed | passed |", "| ensemble | ok: ",
		"| build | ", "| time to ready | ", "| model repository | ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the text of the pull request lacks %q:\n%s", want, text)
		}
	}
	if left := l.engine.containers(t, filepath.Join(l.opts.Dir, ".dalirun")); len(left) > 0 {
		t.Errorf("containers are left: %v", left)
	}
	if got := l.lock(t).Images[lock.Server].Digest; string(got) != l.registry.Digest(t, triton2503Name) {
		t.Errorf("the lock has %s", got)
	}
}

// testBuild builds an image on a base image by its digest, as the local ones are with a lock.
func (l locked) testBuild(t *testing.T) {
	r, err := docker.New(docker.Options{Env: os.Getenv})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	base := l.registry.Host() + "/nvidia/tritonserver@" + string(l.lock(t).Images[lock.Server].Digest) // which was pulled
	image, err := r.Build(t.Context(), container.BuildSpec{
		Tag: l.registry.Host() + "/built/here:1", Dockerfile: []byte("ARG BASE\nFROM ${BASE}\nLABEL made=here\n"), Args: map[string]string{"BASE": base},
	}, func(container.Progress) {})
	if err != nil {
		t.Fatal(err)
	}
	if image.Labels["made"] != "here" || image.Env["NVIDIA_TRITON_SERVER_VERSION"] != "25.03" {
		t.Errorf("it is %+v", image)
	}
}
