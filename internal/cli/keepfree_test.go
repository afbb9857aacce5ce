package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/dalirun/dalirun/internal/cli/dockertest"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
)

// smallDisks are two disks of a size: one of the images of an engine, and one of the cache and the workspace.
type smallDisks struct {
	engine          *dockertest.Engine
	store           string // folder of the engine
	cache, elsewise string
	images, files   int64 // sizes in bytes
}

func (d smallDisks) imageBytes() (sum int64) {
	for _, img := range d.engine.Images() {
		sum += img.Size
	}
	return sum
}

func (d smallDisks) fileBytes() (sum int64, err error) {
	for _, dir := range []string{d.cache, d.elsewise} {
		err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			info, err := e.Info()
			if err == nil {
				sum += info.Size()
			}
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	return sum, nil
}

// DiskFree implements [gc.Disks].
func (d smallDisks) DiskFree(_ context.Context, folder string) (uint64, error) {
	free := d.images - d.imageBytes() //nolint:contextcheck // the fake asks nobody
	if folder != d.store {
		used, err := d.fileBytes()
		if err != nil {
			return 0, err
		}
		free = d.files - used
	}
	return uint64(max(0, free)), nil
}

// A hundred jobs, each with other images and other weights, and gc behind each: images, cache and runs stay as they are
// after some of them, and what somebody else put there stays too.
func TestHundredJobsLeaveTheDiskFlat(t *testing.T) {
	t.Parallel()
	const (
		jobs      = 100
		imageSize = 1 << 30
		kept      = 6 // images for which the disk has room beside what is to be free
		keepFree  = 1 << 20
	)
	store, home := t.TempDir(), t.TempDir()
	w := world{tb: t, packages: true, store: store}
	fake := w.fake()
	fake.AddLocal("somebody/else:1", containertest.Image{Image: container.Image{Size: imageSize}})
	engine := dockertest.New(t, fake)
	workspace, cache := filepath.Join(home, ".dalirun"), filepath.Join(home, "cache")
	disks := smallDisks{
		engine: engine, store: store, cache: cache, elsewise: workspace, images: kept*imageSize + keepFree, files: keepFree + 200<<10,
	}
	folders := []string{"--workspace=" + workspace, "--cache-dir=" + cache}
	run := func(args ...string) {
		t.Helper()
		var stderr bytes.Buffer
		app := appIn(map[string]string{"DOCKER_HOST": engine.Host(), "HOME": home}, io.Discard, &stderr)
		app.measured = disks
		if code := app.Run(t.Context(), append(args, folders...)); code != ExitOK {
			t.Fatalf("%q ended with %d: %s", args, code, stderr.String())
		}
	}
	var images, runs []int
	var bytes []int64
	for job := range jobs {
		exporter, server := fmt.Sprintf("127.0.0.1:9/pytorch:%d", job), fmt.Sprintf("127.0.0.1:9/tritonserver:%d", job)
		for _, ref := range []string{exporter, server} {
			fake.AddRemote(ref, containertest.Image{Image: container.Image{Digest: fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(ref))), Size: imageSize}, Main: w.run})
		}
		run("setup", "--accel=cpu", "--images=ngc", "--release=25.03", "--exporter-image="+exporter, "--server-image="+server,
			"--weights=random:"+strconv.Itoa(job), "--progress=quiet")
		run("gc", "--keep-free="+strconv.Itoa(keepFree)+"b")
		folders, err := os.ReadDir(filepath.Join(workspace, "runs"))
		if err != nil {
			t.Fatal(err)
		}
		used, err := disks.fileBytes()
		if err != nil {
			t.Fatal(err)
		}
		images, runs, bytes = append(images, len(engine.Images())), append(runs, len(folders)), append(bytes, used)
		if free := disks.images - disks.imageBytes(); free < keepFree {
			t.Fatalf("job %d: %d bytes are free for images", job, free)
		}
		if used > disks.files-keepFree {
			t.Fatalf("job %d: cache and workspace have %d bytes", job, used)
		}
	}
	most := func(all []int) (most int) {
		for _, n := range all {
			most = max(most, n)
		}
		return most
	}
	const settled = 20
	for name, counts := range map[string][]int{"images": images, "runs": runs} {
		if before, after := most(counts[:settled]), most(counts[settled:]); after > before || after == 0 {
			t.Errorf("%s grow: at most %d in the first %d jobs, %d in the rest: %v", name, before, settled, after, counts)
		}
	}
	if bytes[jobs-1] > bytes[settled]*3/2 {
		t.Errorf("the files grow: %v", bytes)
	}
	for _, ref := range []string{"somebody/else:1", "debian:bookworm-slim"} {
		if _, err := fake.Resolve(t.Context(), ref); err != nil {
			t.Error(err)
		}
	}
	for _, ref := range []string{fmt.Sprintf("127.0.0.1:9/pytorch:%d", jobs-1), fmt.Sprintf("127.0.0.1:9/tritonserver:%d", jobs-1)} {
		if _, err := fake.Resolve(t.Context(), ref); err != nil {
			t.Errorf("of the last build: %v", err)
		}
	}
}
