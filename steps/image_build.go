package steps

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/dalirun/dalirun"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/target"
)

// imageFiles is the folder of the local images' Dockerfiles, and of the files that these copy.
const imageFiles = "assets/images"

// imageBuild holds all that a local image is built from. Certificates and proxies depend on the machine and do not
// change the image.
type imageBuild struct {
	name       string // exporter or server
	base       string
	dockerfile []byte
	files      map[string][]byte

	ca      []byte            `fact:"-"`
	args    map[string]string `fact:"-"`
	network string            `fact:"-"`
}

func newImageBuild(t target.Target, tools Tools, name string) imageBuild {
	b := imageBuild{
		name: name, base: t.BaseImage, files: map[string][]byte{}, ca: tools.CABundle,
		args: tools.BuildArgs, network: t.BuildNetwork,
	}
	entries, err := fs.ReadDir(dalirun.Assets, imageFiles)
	if err != nil {
		panic(err) // impossible: the binary embeds the folder
	}
	for _, e := range entries {
		data, err := fs.ReadFile(dalirun.Assets, path.Join(imageFiles, e.Name()))
		if err != nil {
			panic(err)
		}
		switch {
		case e.Name() == name+".Dockerfile":
			b.dockerfile = data
		case strings.HasPrefix(e.Name(), name+"-"):
			b.files[e.Name()] = data
		}
	}
	return b
}

// hash identifies the build.
func (b imageBuild) hash() string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q\n%q\n", b.name, b.base, b.dockerfile)
	for _, name := range slices.Sorted(maps.Keys(b.files)) {
		fmt.Fprintf(h, "%q=%q\n", name, b.files[name])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// tag returns the name of the image. Each build has its own, so that an old image is never taken for a new one.
func (b imageBuild) tag() string { return "dalirun/" + b.name + ":" + b.hash()[:12] }

func (b imageBuild) spec() container.BuildSpec {
	files := maps.Clone(b.files)
	files["ca-bundle.crt"] = b.ca
	args := maps.Clone(b.args)
	if args == nil {
		args = map[string]string{}
	}
	args["BASE"] = b.base
	return container.BuildSpec{
		Tag: b.tag(), Dockerfile: b.dockerfile, Files: files, Args: args, Network: b.network,
		Labels: container.Labels{container.LabelBuild: b.hash()},
	}
}
