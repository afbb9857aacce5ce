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

// imageFiles is where the recipes of the local images are.
const imageFiles = "assets/images"

// recipe is all that a local image is built from. Certificates and proxies are of the machine, not of the image.
type recipe struct {
	name       string // exporter or server
	base       string
	dockerfile []byte
	files      map[string][]byte

	ca      []byte            `fact:"-"`
	args    map[string]string `fact:"-"`
	network string            `fact:"-"`
}

func newRecipe(t target.Target, with Tools, name string) recipe {
	r := recipe{name: name, base: t.BaseImage, files: map[string][]byte{}, ca: with.CABundle, args: with.BuildArgs, network: t.BuildNetwork}
	entries, err := fs.ReadDir(dalirun.Assets, imageFiles)
	if err != nil {
		panic(err) // the binary is embedded with the folder: this cannot happen
	}
	for _, e := range entries {
		data, err := fs.ReadFile(dalirun.Assets, path.Join(imageFiles, e.Name()))
		if err != nil {
			panic(err)
		}
		switch {
		case e.Name() == name+".Dockerfile":
			r.dockerfile = data
		case strings.HasPrefix(e.Name(), name+"-"):
			r.files[e.Name()] = data
		}
	}
	return r
}

// hash identifies the recipe.
func (r recipe) hash() string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q\n%q\n", r.name, r.base, r.dockerfile)
	for _, name := range slices.Sorted(maps.Keys(r.files)) {
		fmt.Fprintf(h, "%q=%q\n", name, r.files[name])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// tag is the name of the image: one for each recipe, so that an old image is never taken for a new one.
func (r recipe) tag() string { return "dalirun/" + r.name + ":" + r.hash()[:12] }

func (r recipe) spec() container.BuildSpec {
	files := maps.Clone(r.files)
	files["ca-bundle.crt"] = r.ca
	args := maps.Clone(r.args)
	if args == nil {
		args = map[string]string{}
	}
	args["BASE"] = r.base
	return container.BuildSpec{
		Tag: r.tag(), Dockerfile: r.dockerfile, Files: files, Args: args, Network: r.network,
		Labels: container.Labels{container.LabelBuild: r.hash()},
	}
}
