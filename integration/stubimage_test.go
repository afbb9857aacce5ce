//go:build integration

package integration

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"testing"

	dimage "github.com/docker/docker/api/types/image"
)

// stubRegistry is where the stub images seem to be from. No such host exists (RFC 6761): what is missing cannot be pulled.
const stubRegistry = "registry.test"

// stubs makes stub images on an engine.
type stubs struct {
	engine engine
	binary []byte
}

func newStubs(t *testing.T, e engine) stubs {
	t.Helper()
	file := filepath.Join(t.TempDir(), "stub")
	if err := goBuild(t.Context(), file, "github.com/dalirun/dalirun/integration/stub"); err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return stubs{e, binary}
}

// The environment of NVIDIA's images, as far as something depends on it, by release. 21.07 says it as its notes do.
var (
	pytorch2503 = []string{"NVIDIA_PYTORCH_VERSION=25.03", "TRT_VERSION=10.9.0.34", "CUDA_VERSION=12.8.1.012", "DALI_VERSION=1.44.0"}
	triton2503  = []string{"TRITON_SERVER_VERSION=2.56.0", "NVIDIA_TRITON_SERVER_VERSION=25.03", "TRT_VERSION=10.9.0.34", "CUDA_VERSION=12.8.1.012", "DALI_VERSION=1.44.0"}
	pytorch2107 = []string{"NVIDIA_PYTORCH_VERSION=21.07", "TRT_VERSION=8.0.1.6", "CUDA_VERSION=11.4.0.031", "DALI_VERSION=1.3.0"}
	triton2107  = []string{"TRITON_SERVER_VERSION=2.12.0", "NVIDIA_TRITON_SERVER_VERSION=21.07", "TRT_VERSION=8.0.1.6", "CUDA_VERSION=11.4.0.031"}
	pytorch2606 = []string{"NVIDIA_PYTORCH_VERSION=26.06", "TRT_VERSION=11.0.0.114", "CUDA_VERSION=13.3.0", "DALI_VERSION=2.1.1"}
	triton2606  = []string{"TRITON_SERVER_VERSION=2.70.0", "NVIDIA_TRITON_SERVER_VERSION=26.06", "TRT_VERSION=11.0.0.114", "CUDA_VERSION=13.3.0", "DALI_VERSION=2.1.1"}
)

// pytorch makes a stub of the PyTorch image: trtexec is on its PATH.
func (s stubs) pytorch(t *testing.T, ref string, env ...string) {
	t.Helper()
	s.image(t, ref, []string{"opt/tensorrt/bin/trtexec"}, append(env, "PATH=/opt/tensorrt/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"))
}

// triton makes a stub of the Triton image: trtexec is aside.
func (s stubs) triton(t *testing.T, ref string, env ...string) {
	t.Helper()
	s.image(t, ref, []string{"opt/tritonserver/bin/tritonserver"}, append(env, "PATH=/opt/tritonserver/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"))
}

// served makes a stub of a server image that is not NVIDIA's: tritonserver is on PATH, in a folder of its own.
func (s stubs) served(t *testing.T, ref string, env ...string) {
	t.Helper()
	s.image(t, ref, []string{"srv/bin/tritonserver"}, append(env, "PATH=/srv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"))
}

// image makes an image FROM scratch that holds the stub under the names that both images have, and under further ones.
func (s stubs) image(t *testing.T, ref string, names, env []string) {
	t.Helper()
	layer := s.layer(t, names)
	changes := []string{`ENTRYPOINT ["/opt/nvidia/nvidia_entrypoint.sh"]`}
	for _, pair := range env {
		changes = append(changes, "ENV "+pair)
	}
	answer, err := s.engine.client(t).ImageImport(t.Context(), dimage.ImportSource{Source: bytes.NewReader(layer), SourceName: "-"}, ref, dimage.ImportOptions{Changes: changes})
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Close() //nolint:errcheck // it was read to its end
	if out, err := io.ReadAll(answer); err != nil || bytes.Contains(out, []byte(`"error"`)) {
		t.Fatalf("import %s: %v\n%s", ref, err, out)
	}
}

// layer is the only layer of such an image.
func (s stubs) layer(t *testing.T, names []string) []byte {
	t.Helper()
	names = append([]string{"opt/nvidia/nvidia_entrypoint.sh", "bin/sh", "usr/bin/nvidia-smi", "usr/bin/python3", "usr/src/tensorrt/bin/trtexec"}, names...)
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	write := func(h *tar.Header, data []byte) {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range parents(names) { // the engine would make them, for root alone
		write(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}, nil)
	}
	write(&tar.Header{Name: names[0], Mode: 0o755, Size: int64(len(s.binary))}, s.binary)
	for _, name := range names[1:] {
		write(&tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: names[0], Mode: 0o755}, nil)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return layer.Bytes()
}

// parents are the folders of files, the outer ones first.
func parents(files []string) []string {
	var dirs []string
	for _, file := range files {
		for dir := path.Dir(file); dir != "."; dir = path.Dir(dir) {
			if !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		}
	}
	slices.Sort(dirs)
	return dirs
}

// tag gives an image another name.
func (s stubs) tag(t *testing.T, ref, as string) {
	t.Helper()
	if err := s.engine.client(t).ImageTag(t.Context(), ref, as); err != nil {
		t.Fatal(err)
	}
}

func pytorchRef(registry, release string) string {
	return registry + "/nvidia/pytorch:" + release + "-py3"
}

func tritonRef(registry, release string) string {
	return registry + "/nvidia/tritonserver:" + release + "-py3"
}
