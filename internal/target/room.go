package target

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/pipeline"
)

// expansion is how much larger an image is once its layers are unpacked. Assumed, the middle of 2 to 2.5, from what users
// write of NGC images: those that are listed with 9 to 11 GB compressed take 20 to 25 GB in `docker images`. None was
// measured here.
const expansion = 2.25

// Download is how many bytes would be pulled. A layer of both images is counted once, and one that is here not at all.
func (p ImagePair) Download() int64 {
	var sum int64
	here := slices.Concat(p.Exporter.Here, p.Server.Here)
	counted := map[string]bool{}
	for _, layer := range slices.Concat(p.Exporter.Image.Layers, p.Server.Image.Layers) {
		if !counted[layer.Digest] && !slices.Contains(here, layer.Unpacked) {
			counted[layer.Digest] = true
			sum += layer.Size
		}
	}
	return sum
}

// Unpacked is how many bytes the missing images would take where the container engine stores images, and what that
// assumes; 0 if both are here.
func (p ImagePair) Unpacked() (bytes int64, assumed string) {
	download := p.Download()
	if download == 0 {
		return 0, ""
	}
	return int64(float64(download) * (1 + expansion)), fmt.Sprintf(
		"%s to download, %g times that unpacked (assumed), and both while they are pulled", bytesize.Format(download), expansion)
}

// decideImageRoom compares what the images take with what is free where the container engine stores them. Too little for
// what is to be downloaded, and unpacked there, is refused; too little for what that is assumed to take is a doubt. A
// store that cannot be seen from here, on another host or in a virtual machine, is not judged. Where the container engine
// does not tell which folder it is, its root folder is looked at, and nothing is sure.
func (x *resolution) decideImageRoom(ctx context.Context) {
	t := &x.target
	dir, sure, what := x.info.ImageDir, true, "where the container engine stores images"
	if dir == "" {
		dir, sure = x.info.RootDir, false
		what = "the container engine's root folder, which need not be where it stores images"
	}
	if t.Source != NGC || x.remote || dir == "" || x.refused(CheckImages) || x.refused(CheckRelease) {
		return
	}
	free, err := x.probes.Host.DiskFree(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		x.doubt(CheckImageDisk, err.Error(), "")
		return
	}
	saw := fmt.Sprintf("%s, %s, has %s free", dir, what, bytesize.Format(free))
	advice := remedy.WhatCouldGo
	if x.info.ImageDir != "" { // the images of containerd's store are elsewhere, and stay there
		advice += "; or move the container engine's data-root to a larger disk"
	}
	download := t.Images.Download()
	need, assumed := t.Images.Unpacked()
	switch {
	case need == 0:
	case float64(free) < float64(download):
		saw += fmt.Sprintf(", and the images have %s to download, which takes more once it is unpacked", bytesize.Format(download))
		if sure {
			x.refuse(CheckImageDisk, pipeline.Faultf(pipeline.Environment, advice, "%s", saw))
		} else {
			x.doubt(CheckImageDisk, saw, advice)
		}
	default:
		saw += fmt.Sprintf(", and the images may need %s (%s)", bytesize.Format(need), assumed)
		if float64(free) < float64(need) {
			x.doubt(CheckImageDisk, saw, advice)
		}
	}
	t.ImageRoom = saw
}
