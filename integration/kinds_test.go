//go:build integration

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/parity"
	"github.com/dalirun/dalirun/internal/picture"
	"github.com/dalirun/dalirun/internal/picture/picturetest"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
	"github.com/dalirun/dalirun/triton"
)

const (
	brokenPictures = "../internal/picture/picturetest/testdata"
	pictureKinds   = "../internal/picture/testdata/kinds"
)

// TestPicturesAgree compares the real server with PyTorch on each picture that is sent: each kind of docs/pictures.md, and
// those that broke something. What Pillow does not decode rightly is compared with nothing, and must be said to be so. What
// the client refuses shows nothing of others.
func TestPicturesAgree(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	want, problems := b.referenceTensors(t)
	preprocessing, _, _ := parity.Bounds(release.FP32)
	unjudged := map[string]bool{}
	for _, r := range picturetest.Table() {
		unjudged[r.File] = r.Served == picturetest.Unjudged
	}
	compared := 0
	err := b.run(t, b.steps(steps.IDServe), func(ctx context.Context, v pipeline.Values) error {
		client, err := triton.Dial(v["server"].Ref)
		if err != nil {
			return err
		}
		for _, dir := range []string{brokenPictures, pictureKinds} {
			for name, data := range readDir(t, dir) {
				info, err := picture.Check(data, picture.DefaultLimits())
				if err != nil {
					notOthers(ctx, t, client, name, data)
					continue
				}
				got, err := preprocess(ctx, client, data)
				if unjudged[name] { // nobody can say what is right
					if problems[name] == "" {
						t.Error(name + ": PyTorch's decoder says nothing")
					}
					continue
				}
				if err != nil {
					t.Errorf("%s: %v", name, err)
					continue
				}
				if info.Unverifiable != "" {
					continue
				}
				if problems[name] != "" {
					t.Errorf("%s: PyTorch's decoder says: %s", name, problems[name])
					continue
				}
				comparison, err := parity.Check(parity.Preprocessing, got, want[name], preprocessing)
				if err != nil || !comparison.OK {
					t.Errorf("%s: %+v, %v", name, comparison, err)
				}
				compared++
			}
		}
		return client.Close()
	})
	if err != nil {
		t.Error(err)
	}
	if compared < 100 {
		t.Errorf("only %d pictures were compared", compared)
	}
}

// refusedByServer has kinds that the server refuses as well, which would answer them with wrong pixels, or with memory of others.
func refusedByServer() []string {
	return []string{
		"bmp-16.bmp", "bmp-32-masks-bgr.bmp", "jpg-cmyk-no-adobe.jpg", "j2k-grey12.jp2", "j2k-sycc.jp2", "pnm-p2-1023.pgm", "pnm-p5-100.pgm", "pnm-p6-1023.ppm",
		"tif-cielab.tif", "tif-grey-alpha.tif", "tif-rgb-jpeg2000.tif", "tif-rgb16-planar.tif", "tif-rgba-planar.tif",
		"tif-cmyk-orientation-6.tif", "tif-planar-orientation-6.tif", "tif-white-is-zero8-orientation-2.tif",
		"tif-12-orientation-6.tif", "tif-rgb12-orientation-6.tif", "tif-twice-orientation.tif", "tif-twice-bits.tif", "tif-twice-colours.tif",
		"jpg-cmyk-comment.jpg", "pnm-long-comment.pgm",
	}
}

// notOthers checks that what the server answers to a picture that the client refuses, if anything, has nothing of the picture
// that was asked for before: that is dark once and bright once.
func notOthers(ctx context.Context, t *testing.T, client *triton.Client, name string, data []byte) {
	t.Helper()
	var answers [][]float32
	for _, shade := range []uint8{10, 240, 90} {
		for range 3 { // its pool has more than one piece of memory
			if _, err := preprocess(ctx, client, plainPNM(shade)); err != nil {
				t.Errorf("%s: between: %v", name, err)
			}
		}
		answer, err := preprocess(ctx, client, data)
		if err == nil && slices.Contains(refusedByServer(), name) {
			t.Errorf("%s: the server answers it", name)
		}
		answers = append(answers, answer)
	}
	if !slices.Equal(answers[0], answers[1]) || !slices.Equal(answers[0], answers[2]) {
		t.Errorf("%s: what is answered depends on the picture before", name)
	}
}

// plainPNM returns a picture of one shade, of the size that the pictures of kinds have.
func plainPNM(shade uint8) []byte {
	const width, height = 24, 16
	return append(fmt.Appendf(nil, "P6 %d %d 255\n", width, height), bytes.Repeat([]byte{shade}, 3*width*height)...)
}

// preprocess asks the DALI model.
func preprocess(ctx context.Context, client *triton.Client, data []byte) ([]float32, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	input, err := triton.NewUint8("DALI_INPUT_0", data, 1, int64(len(data)))
	if err != nil {
		return nil, err
	}
	answer, err := client.Infer(ctx, triton.InferRequest{
		Model: "dali", Inputs: []triton.Tensor{input}, Outputs: []triton.RequestedOutput{{Name: "DALI_OUTPUT_0"}},
	})
	if err != nil {
		return nil, err
	}
	tensor, err := answer.Output("DALI_OUTPUT_0")
	if err != nil {
		return nil, err
	}
	return tensor.Float32s()
}

// referenceTensors returns, by file name, the model's inputs that PyTorch's part makes of pictures, and its problems with them.
func (b *bench) referenceTensors(t *testing.T) (tensors map[string][]float32, problems map[string]string) {
	t.Helper()
	out := t.TempDir()
	spec := container.Spec{
		Step: "reference-tensors", Role: container.RoleBatch, Image: b.values(t, steps.IDExporterImage)["image"].Ref, Init: true,
		Command: []string{"python3", "-B", "/tests/reference_tensors.py"}, Network: container.NetworkNone,
		Env:     map[string]string{"PYTHONPATH": "/dalirun/python", "HOME": "/tmp", "USER": "dalirun"},
		Outputs: []container.Mount{{Source: out, Target: "/out"}},
	}
	for target, dir := range map[string]string{"/dalirun/python": "../assets/python", "/tests": "python", "/pictures": brokenPictures, "/kinds": pictureKinds} {
		source, err := filepath.Abs(dir)
		if err != nil {
			t.Fatal(err)
		}
		spec.Inputs = append(spec.Inputs, container.Mount{Source: source, Target: target})
	}
	var log output
	c, err := b.runtime.Run(t.Context(), spec, container.Streams{Stdout: &log, Stderr: &log})
	if err != nil {
		t.Fatal(err)
	}
	exit, err := c.Wait(t.Context())
	if err = errors.Join(err, b.runtime.Remove(context.WithoutCancel(t.Context()), c.ID())); err != nil || exit.Code != 0 {
		t.Fatalf("%v, exit code %d\n%s", err, exit.Code, &log)
	}
	tensors = map[string][]float32{}
	for name, data := range readDir(t, out) {
		if name == "said.json" {
			if err := json.Unmarshal(data, &problems); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if tensors[name], err = (&triton.Tensor{Datatype: triton.FP32, Shape: []int64{1, 3, 224, 224}, Data: data}).Float32s(); err != nil {
			t.Fatal(err)
		}
	}
	return tensors, problems
}

// readDir reads the files of a folder but its README.md.
func readDir(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, e := range entries {
		if e.Name() == "README.md" {
			continue
		}
		if files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// TestVerifyColumn ends a run with each picture that broke something as its row says, under the user's name for it. Of those
// that verify it takes one of each kind: TestPicturesAgree has all of them.
func TestVerifyColumn(t *testing.T) {
	t.Parallel()
	c := cpuLane(t)
	o := opts{Dir: t.TempDir()}
	verified := map[string]bool{"two-exif-16-wide.jpg": true, "exif-wrong-crc-tall.png": true, "png-gray16.png": true, "ppm.ppm": true}
	for _, r := range picturetest.Table() {
		if r.Verify == 0 && !verified[r.File] {
			continue
		}
		name := write(t, o.Dir, r.File, picturetest.Data(t, r.File))
		got := run(t, c.engine, o, c.args("e2e", "--image", r.File)...)
		if got.Code != r.Verify {
			t.Errorf("%s: exit code %d, want %d\n%s", r.File, got.Code, r.Verify, got.Stderr)
		}
		if r.Verify != 0 && (!strings.Contains(got.Stderr, r.File) || strings.Contains(got.Stderr, c.cache)) {
			t.Errorf("%s: it is not told by the user's path alone:\n%s", r.File, got.Stderr)
		}
		t.Logf("%s: %d after %s", filepath.Base(name), got.Code, got.Duration.Round(time.Millisecond))
	}
	c.checkNoContainer(t, o.Dir)
}
