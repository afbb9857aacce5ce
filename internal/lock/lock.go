// Package lock is the file dalirun.lock: what a run resolved, one fact a line, and whether another run still resolves
// to the same. It reads no file and asks nobody.
package lock

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// File is the name of a lock in the current folder.
const File = "dalirun.lock"

// Version is the version of the file's form. It grows when a reader of the old form would go wrong.
const Version = 1

// The roles of images, and with Exporter and Server the names of the local images.
const (
	Exporter = "exporter" // has PyTorch
	Server   = "server"   // has tritonserver
	Base     = "base"     // under the local images
)

// The image sources.
const (
	NGC   = "ngc"
	Local = "local"
)

// Digest is the SHA-256 of something: "sha256:" and 64 hexadecimal digits.
type Digest string

// Lock is what a run resolved. A field that is zero is not known, and of a map the entry that is not there. [Parse]
// returns one that is complete.
type Lock struct {
	Source  string            `json:"source,omitempty"`  // NGC or Local
	Model   string            `json:"model,omitempty"`   // recipe; empty for the default one
	Release string            `json:"release,omitempty"` // YY.MM; empty for images of no release, and local ones
	Images  map[string]Image  `json:"images,omitempty"`  // by role: Exporter and Server, or Base
	Builds  map[string]Build  `json:"builds,omitempty"`  // of the local images, by name
	Weights Weights           `json:"weights,omitzero"`
	Scripts map[string]Digest `json:"scripts,omitempty"` // the programs that run in containers, by file name
	Labels  Digest            `json:"labels,omitempty"`  // the names of the classes
	Picture Digest            `json:"picture,omitempty"` // that the server is verified with
}

// Image is an image that somebody else built.
type Image struct {
	Ref string `json:"ref"` // by which it was found, as in nvcr.io/nvidia/pytorch:25.03-py3
	// Digest is that of the registry: of the index for several platforms, or of the manifest where there is no index.
	// Empty if no registry gave it.
	Digest Digest `json:"digest,omitempty"`
	// ID is the container engine's, for an image without a Digest: it was loaded from a file, or made here.
	ID Digest `json:"id,omitempty"`
	// Platforms are the digests of the manifests by platform, as linux/amd64.
	Platforms map[string]Digest `json:"platforms,omitempty"`
}

// Build is a local image.
type Build struct {
	Hash Digest `json:"hash,omitempty"` // of its Dockerfile, of the files that this copies, and of the base image's name
	// Packages are the versions of its apt and pip packages by name, for each platform on which somebody looked.
	Packages map[string]map[string]string `json:"packages,omitempty"`
}

// Weights are those of the model.
type Weights struct {
	Kind   string `json:"kind,omitempty"` // pretrained, random or file
	URL    string `json:"url,omitempty"`  // of pretrained ones
	Seed   int64  `json:"seed,omitempty"` // of random ones
	SHA256 Digest `json:"sha256,omitempty"`
}

// Platform is the name of a platform of containers; arch is Go's name.
func Platform(arch string) string { return "linux/" + arch }

// Packages reads what a local image says of its packages: a name and a version a line. A name that stands there twice,
// as a package of apt and one of pip may, has both versions.
func Packages(list string) map[string]string {
	packages := map[string]string{}
	for line := range strings.Lines(list) {
		fields := strings.Fields(line)
		if len(fields) != 2 {
			continue // no package has a blank in its name or version
		}
		name, version := fields[0], fields[1]
		if other, twice := packages[name]; twice && other != version {
			version = other + "," + version
		}
		packages[name] = version
	}
	return packages
}

// facts are the lines of a lock: values by what stands before them.
func (l Lock) facts() map[string]string {
	facts := map[string]string{}
	add := func(value string, words ...string) {
		if value != "" {
			facts[strings.Join(words, " ")] = value
		}
	}
	add(l.Source, "source")
	add(l.Model, "model")
	add(l.Release, "release")
	for role, image := range l.Images {
		add(image.Ref, "image", role, "ref")
		add(string(image.Digest), "image", role, "digest")
		add(string(image.ID), "image", role, "id")
		for platform, digest := range image.Platforms {
			add(string(digest), "image", role, platform)
		}
	}
	for name, build := range l.Builds {
		add(string(build.Hash), "build", name)
		for platform, packages := range build.Packages {
			for pkg, version := range packages {
				add(version, "package", name, platform, pkg)
			}
		}
	}
	add(l.Weights.Kind, "weights", "kind")
	add(l.Weights.URL, "weights", "url")
	add(string(l.Weights.SHA256), "weights", "sha256")
	if l.Weights.Kind == kindRandom {
		add(strconv.FormatInt(l.Weights.Seed, 10), "weights", "seed")
	}
	for file, digest := range l.Scripts {
		add(string(digest), "script", file)
	}
	add(string(l.Labels), "labels")
	add(string(l.Picture), "picture")
	return facts
}

// Text is the file: the version, and a line for each fact, sorted.
func (l Lock) Text() []byte {
	facts := l.facts()
	var b strings.Builder
	b.WriteString("# What dalirun resolved. `dalirun lock --update` writes it anew; do not edit it.\n")
	b.WriteString("version " + strconv.Itoa(Version) + "\n")
	for _, fact := range slices.Sorted(maps.Keys(facts)) {
		b.WriteString(fact + " " + facts[fact] + "\n")
	}
	return []byte(b.String())
}

// Merged returns l with the platforms of other that l does not know, where both are of the same thing: one machine
// knows the packages of its own platform alone.
func (l Lock) Merged(other Lock) Lock {
	builds := map[string]Build{}
	for name, build := range l.Builds {
		if was := other.Builds[name]; was.Hash == build.Hash {
			packages := maps.Clone(was.Packages)
			if packages == nil {
				packages = map[string]map[string]string{}
			}
			maps.Copy(packages, build.Packages)
			build.Packages = packages
		}
		builds[name] = build
	}
	if len(builds) > 0 {
		l.Builds = builds
	}
	return l
}

// Short is a digest as container engines show it to people, and any other text as it is.
func Short(value string) string {
	const digits = 12
	if digest := Digest(value); digest.valid() {
		return value[:len(prefix)+digits] + "…"
	}
	return value
}

const prefix = "sha256:"

// valid says whether d is a whole digest.
func (d Digest) valid() bool {
	digits, ok := strings.CutPrefix(string(d), prefix)
	return ok && len(digits) == 64 && strings.Trim(digits, "0123456789abcdef") == ""
}

// Pulled is by what an image is found: its digest, or else its ID.
func (i Image) Pulled() Digest { return cmp.Or(i.Digest, i.ID) }
