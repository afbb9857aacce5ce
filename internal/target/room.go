package target

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/internal/shell"
	"github.com/dalirun/dalirun/pipeline"
)

// expansion is how much larger an image is once its layers are unpacked. Assumed, the middle of 2 to 2.5, from what
// users write of NGC images: those that are listed with 9 to 11 GB compressed take 20 to 25 GB in `docker images`. None
// was measured here.
const expansion = 2.25

// Download returns how many bytes a pull of both images downloads. It counts a layer that both have once, and one that
// the container engine has not at all.
func (p ImagePair) Download() int64 {
	var sum int64
	present := slices.Concat(p.Exporter.LocalLayers, p.Server.LocalLayers)
	counted := map[string]bool{}
	for _, layer := range slices.Concat(p.Exporter.Image.Layers, p.Server.Image.Layers) {
		if !counted[layer.Digest] && !slices.Contains(present, layer.Unpacked) {
			counted[layer.Digest] = true
			sum += layer.Size
		}
	}
	return sum
}

// Unpacked returns how many bytes the missing images take on the container engine's disk, and what this figure assumes;
// 0 if both are here.
func (p ImagePair) Unpacked() (bytes int64, assumed string) {
	download := p.Download()
	if download == 0 {
		return 0, ""
	}
	return int64(float64(download) * (1 + expansion)), fmt.Sprintf(
		"%s to download, %g times that unpacked (assumed), and both while they are pulled", bytesize.Format(download),
		expansion)
}

// decideImageRoom compares the room that the images need with what is free on the container engine's disk. Too little
// for the download is refused. Too little for the assumed size of the unpacked images is a doubt. A disk that this host
// does not see, on another host or in a virtual machine, is not judged. Where the container engine does not name the
// folder of its images, its root folder is judged, and then nothing is refused.
func (x *resolution) decideImageRoom(ctx context.Context) {
	t := &x.target
	dir, sure, role := x.info.ImageDir, true, "where the container engine stores images"
	if dir == "" {
		dir, sure = x.info.RootDir, false
		role = "the container engine's root folder, which need not be where it stores images"
	}
	if t.Source != NGC || x.remote || dir == "" || x.refused(CheckImages) || x.refused(CheckRelease) {
		return
	}
	free, err := x.probes.Host.DiskFree(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return
	}
	if err != nil {
		x.doubt(CheckImageDisk, err.Error(), "`df -h "+shell.Quote(dir)+"` may say how much is free")
		return
	}
	summary := fmt.Sprintf("%s, %s, has %s free", dir, role, bytesize.Format(free))
	advice := remedy.WhatCouldGo
	if x.info.ImageDir != "" { // a new data-root would not move the images of containerd's store
		advice += "; or move the container engine's data-root to a larger disk"
	}
	download := t.Images.Download()
	need, assumed := t.Images.Unpacked()
	switch {
	case need == 0:
	case float64(free) < float64(download):
		summary += fmt.Sprintf(", and the images have %s to download, which takes more once it is unpacked",
			bytesize.Format(download))
		if sure {
			x.refuse(CheckImageDisk, pipeline.Faultf(pipeline.Environment, advice, "%s", summary))
		} else {
			x.doubt(CheckImageDisk, summary, advice)
		}
	default:
		summary += fmt.Sprintf(", and the images may need %s (%s)", bytesize.Format(need), assumed)
		if float64(free) < float64(need) {
			x.doubt(CheckImageDisk, summary, advice)
		}
	}
	t.ImageRoom = summary
}
