package target_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/lock"
	"github.com/dalirun/dalirun/internal/registry"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

const lockFile = "/home/me/dalirun.lock"

// lockOf2503 is the lock of a run of release 25.03 on a machine of these tests.
func lockOf2503() target.Locked {
	picture := sha256.Sum256([]byte("a picture"))
	return target.Locked{File: lockFile, Lock: &lock.Lock{
		Source: lock.NGC, Release: "25.03",
		Images: map[string]lock.Image{
			lock.Exporter: {Ref: "nvcr.io/nvidia/pytorch:25.03-py3", Digest: digest("1")},
			lock.Server:   {Ref: "nvcr.io/nvidia/tritonserver:25.03-py3", Digest: digest("2")},
		},
		Weights: lock.Weights{Kind: "random"}, Scripts: map[string]lock.Digest{"program.py": digest("5")},
		Labels: digest("6"), Picture: lock.Digest("sha256:" + hex.EncodeToString(picture[:])),
	}}
}

// lockOfLocal is that of a run with local images.
func lockOfLocal() target.Locked {
	l := lockOf2503()
	l.Lock.Source, l.Lock.Release = lock.Local, ""
	l.Lock.Images = map[string]lock.Image{lock.Base: {Ref: "debian:bookworm-slim", Digest: digest("3")}}
	l.Lock.Builds = map[string]lock.Build{
		lock.Exporter: {Hash: digest("7"), Packages: map[string]map[string]string{"linux/amd64": {"torch": "2.6.0"}, "linux/arm64": {"torch": "2.5.0"}}},
		lock.Server:   {Hash: digest("8"), Packages: map[string]map[string]string{"linux/amd64": {"numpy": "1.26.4"}}},
	}
	return l
}

// pushed is a machine without a GPU, for whose registry the images of the lock are there by their digests alone, and by
// their tags others.
func pushed(host string) *machine {
	m := noGPU()
	m.builds = lockOfLocal().Lock.Builds
	byTag := ngc("25.03", "26.09")
	m.registry = map[string]registry.Image{}
	for ref, image := range byTag {
		m.registry[strings.Replace(ref, release.DefaultRegistry, host, 1)] = image
	}
	for name, d := range map[string]lock.Digest{"pytorch": digest("1"), "tritonserver": digest("2")} {
		image := byTag[release.DefaultRegistry+"/nvidia/"+name+":25.03-py3"]
		image.Digest = "sha256:of the platform"
		m.registry[host+"/nvidia/"+name+"@"+string(d)] = image
	}
	return m
}

func locked(l target.Locked, change func(*target.Request)) target.Request {
	return withChange(request("e2e"), func(r *target.Request) {
		r.Accel, r.Images, r.Lock = "cpu", l.Lock.Source, l
		change(r)
	})
}

// With a lock, images are those of its digests and its release, from whichever registry; the run has no doubt about it,
// and it does not matter what the tags are now.
func TestLockedImages(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		host   string
		change func(*target.Request)
	}{
		"the same registry":     {"nvcr.io", func(*target.Request) {}},
		"the release by name":   {"nvcr.io", func(r *target.Request) { r.Release = "25.03" }},
		"frozen":                {"nvcr.io", func(r *target.Request) { r.Lock.Frozen = true }},
		"a mirror":              {"mirror.example:5000/all", func(r *target.Request) { r.Registry = "mirror.example:5000/all" }},
		"a mirror, and frozen":  {"mirror.example", func(r *target.Request) { r.Registry, r.Lock.Frozen = "mirror.example", true }},
		"a named server image":  {"nvcr.io", func(r *target.Request) { r.ServerImage = "nvcr.io/nvidia/tritonserver:25.03-py3" }},
		"an exporter by digest": {"nvcr.io", func(r *target.Request) { r.ExporterImage = "nvcr.io/nvidia/pytorch:25.03-py3" }},
	} {
		m := pushed(tt.host)
		decided, obstacles := resolve(t, locked(lockOf2503(), tt.change), m)
		if len(obstacles) > 0 {
			t.Errorf("%s: %v", name, obstacles[0].Err)
		}
		wantExporter, wantServer := tt.host+"/nvidia/pytorch@"+string(digest("1")), tt.host+"/nvidia/tritonserver@"+string(digest("2"))
		got := decided.Images
		if got.Exporter.Ref != wantExporter || got.Server.Ref != wantServer || got.Server.Name() != tt.host+"/nvidia/tritonserver:25.03-py3" || decided.Release.Tag != "25.03" {
			t.Errorf("%s: %s and %s (%s) of release %q", name, got.Exporter.Ref, got.Server.Ref, got.Server.Name(), decided.Release.Tag)
		}
	}
}

// What is not in the lock is found by its tag: the run is told of it, and refused if it is frozen, with each difference.
func TestLockDiffers(t *testing.T) {
	t.Parallel()
	withFile := func(r *target.Request) { r.Weights = target.WeightsSource{Kind: target.File, Path: "/w.pth"} }
	for name, tt := range map[string]struct {
		lock   target.Locked
		change func(*target.Request)
		adjust func(*machine)
		want   []string
	}{
		"another release": {lockOf2503(), func(r *target.Request) { r.Release = "26.09" }, nil, []string{
			"image exporter ref: nvcr.io/nvidia/pytorch:25.03-py3 → nvcr.io/nvidia/pytorch:26.09-py3",
			"image server ref: nvcr.io/nvidia/tritonserver:25.03-py3 → nvcr.io/nvidia/tritonserver:26.09-py3", "release: 25.03 → 26.09",
		}},
		"another image": {lockOf2503(), func(r *target.Request) { r.ExporterImage = "nvcr.io/nvidia/pytorch:26.09-py3" }, nil, []string{
			"image exporter ref: nvcr.io/nvidia/pytorch:25.03-py3 → nvcr.io/nvidia/pytorch:26.09-py3",
		}},
		"another source":  {lockOf2503(), func(r *target.Request) { r.Images = "local" }, nil, []string{"source: ngc → local"}},
		"another picture": {lockOf2503(), func(r *target.Request) { r.Picture.Data = []byte("another") }, nil, []string{"picture: sha256:"}},
		"other weights":   {lockOf2503(), func(r *target.Request) { r.Weights.Seed = 7 }, nil, []string{"weights seed: 0 → 7"}},
		"a file of weights": {lockOf2503(), withFile, func(m *machine) { m.sum = string(digest("9")) }, []string{
			"weights kind: random → file", "weights seed: 0, which is not there", "weights sha256: sha256:999999999999…, which is not in the lock",
		}},
		"another program": {withLock(lockOf2503(), func(l *lock.Lock) {
			l.Scripts = map[string]lock.Digest{"program.py": digest("0")}
			l.Labels = digest("0")
		}), nil, nil, []string{"labels: sha256:000000000000… → sha256:666666666666…", "script program.py: sha256:000000000000… → sha256:555555555555…"}},
		"another base": {lockOfLocal(), func(r *target.Request) { r.BaseImage = "team/debian:12" }, nil, []string{
			"image base ref: debian:bookworm-slim → team/debian:12",
		}},
		"another build": {lockOfLocal(), nil, func(m *machine) {
			m.builds = maps.Clone(m.builds)
			m.builds[lock.Server] = lock.Build{Hash: digest("0"), Packages: map[string]map[string]string{"linux/amd64": {"numpy": "1.26.5"}}}
		}, []string{"build server: sha256:888888888888… → sha256:000000000000…", "package server linux/amd64 numpy: 1.26.4 → 1.26.5"}},
		"an image of no registry": {withLock(lockOfLocal(), func(l *lock.Lock) {
			l.Images = map[string]lock.Image{lock.Base: {Ref: "debian:bookworm-slim", ID: digest("0")}}
		}), nil, func(m *machine) {
			m.images = map[string]container.Image{"debian:bookworm-slim": {ID: string(digest("1"))}}
		}, []string{"image base id: sha256:000000000000… → sha256:111111111111…"}},
		"an image of no registry that is not here": {withLock(lockOf2503(), func(l *lock.Lock) {
			l.Images = maps.Clone(l.Images)
			l.Images[lock.Server] = lock.Image{Ref: "nvcr.io/nvidia/tritonserver:25.03-py3", ID: digest("0")}
		}), nil, nil, []string{"image server id: sha256:000000000000… → none"}},
	} {
		for _, frozen := range []bool{false, true} {
			m := pushed("nvcr.io")
			if tt.adjust != nil {
				tt.adjust(m)
			}
			_, obstacles := resolve(t, locked(tt.lock, func(r *target.Request) {
				r.Lock.Frozen = frozen
				if tt.change != nil {
					tt.change(r)
				}
			}), m)
			remedy := "dalirun lock --update"
			if strings.HasPrefix(strings.Join(tt.want, ""), "image base id") { // an update would only move the difference elsewhere
				remedy = "--base-image"
			}
			if len(obstacles) != 1 || obstacles[0].Check != target.CheckLock || obstacles[0].Doubt == frozen || !strings.Contains(obstacles[0].Remedy, remedy) {
				t.Errorf("%s, frozen is %t: %+v", name, frozen, obstacles)
				continue
			}
			text := obstacles[0].Err.Error()
			lines := strings.Split(text, "\n")
			for i, want := range tt.want {
				if frozen && (len(lines) != len(tt.want)+1 || !strings.HasPrefix(lines[i+1], want)) || !strings.Contains(text, want) {
					t.Errorf("%s, frozen is %t: %q is not its difference %d:\n%s", name, frozen, want, i, text)
				}
			}
			if fault, ok := errors.AsType[*pipeline.Fault](obstacles[0].Err); frozen && (!ok || fault.Kind != pipeline.Environment) {
				t.Errorf("%s: %v is no fault of the environment", name, obstacles[0].Err)
			}
		}
	}
}

func withLock(l target.Locked, change func(*lock.Lock)) target.Locked {
	change(l.Lock)
	return l
}

// A run with many differences is told of some, and of how many there are.
func TestManyDifferences(t *testing.T) {
	t.Parallel()
	l := withLock(lockOf2503(), func(l *lock.Lock) { l.Labels, l.Picture, l.Weights.Seed = digest("0"), digest("0"), 3 })
	_, obstacles := resolve(t, locked(l, func(r *target.Request) { r.ExporterImage = "nvcr.io/nvidia/pytorch:26.09-py3" }), pushed("nvcr.io"))
	if len(obstacles) != 1 || !strings.HasSuffix(obstacles[0].Err.Error(), "; and 1 more, which --frozen lists") || strings.Count(obstacles[0].Err.Error(), ";") != 3 {
		t.Errorf("%+v", obstacles)
	}
}

// Local images stand on the base image of the lock, by its digest, and their step gets the packages to compare with.
func TestLockedLocal(t *testing.T) {
	t.Parallel()
	m := pushed("nvcr.io")
	decided, obstacles := resolve(t, locked(lockOfLocal(), func(r *target.Request) { r.Lock.Frozen = true }), m)
	want := target.LockedBuilds{File: lockFile, Frozen: true, Packages: map[string]map[string]string{
		lock.Exporter: {"torch": "2.6.0"}, lock.Server: {"numpy": "1.26.4"},
	}}
	if diff := cmp.Diff(want, decided.LockedBuilds); diff != "" || len(obstacles) > 0 {
		t.Errorf("%v, -want +got:\n%s", obstacles, diff)
	}
	if decided.BaseImage != "debian@"+string(digest("3")) || decided.BaseName != "debian:bookworm-slim" {
		t.Errorf("on %s (%s)", decided.BaseImage, decided.BaseName)
	}
	if decided.LockFacts().Images[lock.Base].Ref != "debian:bookworm-slim" {
		t.Errorf("its lock has %+v", decided.LockFacts().Images)
	}
}

// A digest that its registry has no more is named, with what to do.
func TestLockedImageIsGone(t *testing.T) {
	t.Parallel()
	m := pushed("nvcr.io")
	m.registryErr = &registry.Error{Kind: registry.NotFound, Text: "look up it: there is none", Missing: string(digest("1"))}
	_, obstacles := resolve(t, locked(lockOf2503(), func(*target.Request) {}), m)
	const says = "nvcr.io/nvidia/pytorch:25.03-py3: its digest in /home/me/dalirun.lock, sha256:"
	if len(obstacles) != 1 || obstacles[0].Doubt || obstacles[0].Check != target.CheckImages || !strings.HasPrefix(obstacles[0].Err.Error(), says) ||
		!strings.Contains(obstacles[0].Err.Error(), string(digest("1"))) || !strings.Contains(obstacles[0].Remedy, "dalirun lock --update") {
		t.Errorf("%+v", obstacles)
	}
}

// Without a lock, a frozen run is refused before anything is looked up.
func TestFrozenWithoutALock(t *testing.T) {
	t.Parallel()
	m := pushed("nvcr.io")
	m.onQuestion = func(question string) { t.Errorf("the %s was asked", question) }
	_, obstacles := resolve(t, withChange(request("e2e"), func(r *target.Request) { r.Lock.Frozen = true }), m)
	fault, ok := errors.AsType[*pipeline.Fault](target.Refusal(obstacles))
	if !ok || fault.Kind != pipeline.Environment || fault.Error() != "--frozen true: there is no dalirun.lock" || !strings.Contains(fault.Hint, "`dalirun lock` writes one") {
		t.Errorf("%+v", obstacles)
	}
}

// What cannot be asked is no difference.
func TestLockCannotBeCompared(t *testing.T) {
	t.Parallel()
	m := pushed("nvcr.io")
	m.carriedErr = pipeline.Faultf(pipeline.Environment, "look at the disk", "the disk is gone")
	_, obstacles := resolve(t, locked(lockOf2503(), func(*target.Request) {}), m)
	if len(obstacles) != 1 || obstacles[0].Doubt || obstacles[0].Check != target.CheckLock || obstacles[0].Err.Error() != "the disk is gone" {
		t.Errorf("%+v", obstacles)
	}
}

// pins answers by reference what a registry says.
type pins map[string]any

func (p pins) Pin(_ context.Context, ref string) (registry.Pinned, error) {
	switch answer := p[ref].(type) {
	case registry.Pinned:
		return answer, nil
	case error:
		return registry.Pinned{}, answer
	default:
		return registry.Pinned{}, errors.New("nobody asked for " + ref + " before")
	}
}

// A lock has what registries say; of an image that none of them has, or that cannot be asked for now, what is here.
func TestPin(t *testing.T) {
	t.Parallel()
	exporter, server := "nvcr.io/nvidia/pytorch:25.03-py3", "nvcr.io/nvidia/tritonserver:25.03-py3"
	of := target.Target{Source: target.NGC, Images: target.ImagePair{Exporter: target.ImageInfo{Ref: exporter}, Server: target.ImageInfo{Ref: server}}}
	index := registry.Pinned{Digest: string(digest("1")), Manifests: map[string]string{"amd64": string(digest("2"))}}
	here := container.Image{ID: string(digest("8")), Digest: string(digest("9"))}
	answer := func(kind registry.Kind) error {
		return &registry.Error{Kind: kind, Registry: "nvcr.io", Text: "look up an image: " + string(kind)}
	}
	pinned := lock.Image{Digest: digest("1"), Platforms: map[string]lock.Digest{"linux/amd64": digest("2")}}
	for name, tt := range map[string]struct {
		now   any
		image *container.Image // in the container engine
		want  lock.Image
		doubt string
		err   string
	}{
		"there":                       {now: index, want: pinned},
		"there, and another one here": {now: index, image: &here, want: pinned},
		"made here":                   {now: index, image: &container.Image{ID: string(digest("8"))}, want: lock.Image{ID: digest("8")}, doubt: server + " has no digest of a registry"},
		"no answer, and here":         {now: answer(registry.NoAnswer), image: &here, want: lock.Image{Digest: digest("9")}, doubt: "no-answer: what the container engine has of it is locked"},
		"no answer":                   {now: answer(registry.NoAnswer), err: "look up an image: no-answer"},
		"no such tag":                 {now: answer(registry.NotFound), image: &here, err: "look up an image: not-found"},
		"a bad name":                  {now: errors.New("no reference"), err: "no reference"},
	} {
		m := &machine{images: map[string]container.Image{}}
		if tt.image != nil {
			m.images[server] = *tt.image
		}
		images, doubts, err := target.Pin(t.Context(), of, pins{exporter: index, server: tt.now}, engineOf{m})
		if tt.err != "" {
			if err == nil || err.Error() != tt.err {
				t.Errorf("%s: %v, want %q", name, err, tt.err)
			}
			continue
		}
		tt.want.Ref = server
		if diff := cmp.Diff(tt.want, images[lock.Server]); err != nil || diff != "" || images[lock.Exporter].Digest != digest("1") {
			t.Errorf("%s: %v, -want +got:\n%s", name, err, diff)
		}
		if told := strings.Join(doubts, "\n"); !strings.Contains(told, tt.doubt) || (told == "") != (tt.doubt == "") {
			t.Errorf("%s: it doubts %q, want %q", name, told, tt.doubt)
		}
	}
	m := &machine{imageErr: errors.New("the engine is broken")}
	if _, _, err := target.Pin(t.Context(), of, pins{}, engineOf{m}); err == nil || err.Error() != "the engine is broken" {
		t.Errorf("%v", err)
	}
}

// The request of a lock asks for its source, its release and its images, and for nothing that another lock had.
func TestOfLock(t *testing.T) {
	t.Parallel()
	asked := withChange(request("lock"), func(r *target.Request) {
		r.Release, r.ServerImage, r.BaseImage, r.Registry = "26.09", "team/serving:7", "team/debian:12", "mirror.example"
	})
	ngc := asked.OfLock("x.lock", *lockOf2503().Lock)
	if ngc.Images != "ngc" || ngc.Release != "25.03" || ngc.ServerImage != "" || ngc.ExporterImage != "" || ngc.BaseImage != "" || ngc.Lock.File != "x.lock" || ngc.Registry != "mirror.example" {
		t.Errorf("%+v", ngc)
	}
	named := lockOf2503().Lock
	named.Images[lock.Exporter] = lock.Image{Ref: "team/train:7", Digest: digest("1")}
	if r := asked.OfLock("x.lock", *named); r.ExporterImage != "team/train:7" || r.ServerImage != "" || r.Release != "25.03" {
		t.Errorf("%+v", r)
	}
	local := asked.OfLock("x.lock", *lockOfLocal().Lock)
	if local.Images != "local" || local.BaseImage != "debian:bookworm-slim" || local.ServerImage != "" || local.Release != "" {
		t.Errorf("%+v", local)
	}
}
