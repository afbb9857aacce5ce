//go:build integration

package integration

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	dimage "github.com/docker/docker/api/types/image"
	"github.com/google/go-containerregistry/pkg/registry"
	"golang.org/x/sys/unix"

	"github.com/dalirun/dalirun/internal/report"
)

// registryIn starts a registry on the loopback address of an engine's network, and returns its HOST:PORT. What is pushed
// is kept in memory.
func registryIn(t *testing.T, e engine) string {
	t.Helper()
	var listener net.Listener
	err := inNetns(e.netns, func() (err error) {
		listener, err = net.Listen("tcp", "127.0.0.1:0") // a socket stays in the network in which it was made
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server := &http.Server{Handler: registry.New(registry.Logger(quiet)), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return listener.Addr().String()
}

// inNetns does something in a network namespace. The thread goes back after it and stays: with one that ends the system
// ends what was started from it, container engines of tests among them.
func inNetns(path string, do func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer own.Close() //nolint:errcheck // only read
	there, err := os.Open(path)
	if err != nil {
		return err
	}
	defer there.Close() //nolint:errcheck // only read
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	return errors.Join(do(), unix.Setns(int(own.Fd()), unix.CLONE_NEWNET))
}

// publish pushes an image to its registry, and removes it from the engine. It returns the digest.
func (s stubs) publish(t *testing.T, ref string) (digest string) {
	t.Helper()
	c := s.engine.client(t)
	auth := base64.URLEncoding.EncodeToString([]byte("{}"))
	answer, err := c.ImagePush(t.Context(), ref, dimage.PushOptions{RegistryAuth: auth})
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(answer)
	if err != nil || strings.Contains(string(out), `"error"`) {
		t.Fatalf("push %s: %v\n%s", ref, err, out)
	}
	found, err := c.ImageInspect(t.Context(), ref)
	if err != nil || len(found.RepoDigests) != 1 {
		t.Fatalf("%v, digests %q", err, found.RepoDigests)
	}
	if _, err := c.ImageRemove(t.Context(), ref, dimage.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	_, digest, _ = strings.Cut(found.RepoDigests[0], "@")
	return digest
}

func (e engine) images(t *testing.T) (names []string) {
	t.Helper()
	all, err := e.client(t).ImageList(t.Context(), dimage.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, img := range all {
		names = append(names, img.RepoTags...)
	}
	slices.Sort(names)
	return names
}

// TestRunnerHygiene: what was pulled at night is found by the job, by digest; what no workspace needs any more goes, and
// what dalirun did not bring stays.
func TestRunnerHygiene(t *testing.T) {
	t.Parallel()
	e := startEngine(t)
	s := newStubs(t, e)
	host := registryIn(t, e)
	digests := map[string]string{}
	for release, env := range map[string][2][]string{"25.03": {pytorch2503, triton2503}, "26.06": {pytorch2606, triton2606}} {
		s.pytorch(t, pytorchRef(host, release), env[0]...)
		s.triton(t, tritonRef(host, release), env[1]...)
		for _, ref := range []string{pytorchRef(host, release), tritonRef(host, release)} {
			digests[ref] = s.publish(t, ref)
		}
	}
	s.pytorch(t, "somebody/else:1", "WHOSE=theirs")
	if left := e.images(t); !slices.Equal(left, []string{"somebody/else:1"}) {
		t.Fatalf("before there are %q", left)
	}
	o := opts{Dir: t.TempDir()}
	lane := func(command, release string, further ...string) []string {
		return append([]string{
			command, "--accel", "cpu", "--images", "ngc", "--registry", host, "--release", release, "--weights", "random:0",
		}, further...)
	}
	for _, release := range []string{"26.06", "25.03"} {
		var got report.Report
		r := mustRun(t, 0, e, o, lane("pull", release, "--format", "json")...)
		if err := json.Unmarshal([]byte(r.Stdout), &got); err != nil || len(got.Pulled) != 3 {
			t.Fatalf("%v: %s", err, r.Stdout)
		}
		for _, p := range got.Pulled[:2] {
			if want := digests[p.Name]; want == "" || p.Digest != want || p.Bytes == 0 {
				t.Errorf("pulled %+v; want the digest %s", p, want)
			}
		}
	}
	r := mustRun(t, 0, e, o, lane("setup", "25.03")...)
	r.says(t, "exporter-image: cached", "server-image: cached", "weights: cached")

	const more = "4000PiB" // than any disk has
	r = mustRun(t, 0, e, o, "gc", "--keep-free", more, "--dry-run")
	if !strings.Contains(r.Stdout, "would remove image "+pytorchRef(host, "26.06")) || len(e.images(t)) != 5 {
		t.Errorf("a dry run left %q:\n%s", e.images(t), r.Stdout)
	}
	r = mustRun(t, 0, e, o, "gc", "--keep-free", "1KiB")
	if !strings.Contains(r.Stdout, "nothing is to be removed") {
		t.Errorf("of a disk that has enough:\n%s", r.Stdout)
	}
	r = mustRun(t, 0, e, o, "gc", "--keep-free", more)
	for _, want := range []string{
		"removed image " + tritonRef(host, "26.06"), "kept the image " + tritonRef(host, "25.03") + ": the last build of ",
		"that were wanted: what else is there is used, or not dalirun's",
	} {
		if !strings.Contains(r.Stdout, want) {
			t.Errorf("it does not say %q:\n%s", want, r.Stdout)
		}
	}
	want := []string{pytorchRef(host, "25.03"), tritonRef(host, "25.03"), "somebody/else:1"}
	slices.Sort(want)
	if left := e.images(t); !slices.Equal(left, want) {
		t.Errorf("left are %q, not %q", left, want)
	}
	mustRun(t, 0, e, o, lane("setup", "25.03")...).says(t, "exporter-image: cached", "assemble-repository: cached")
}
