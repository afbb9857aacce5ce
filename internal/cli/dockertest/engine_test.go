package dockertest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/cli/dockertest"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/container/docker"
)

func runtimeOf(t *testing.T, e *dockertest.Engine) *docker.Runtime {
	t.Helper()
	r, err := docker.New(docker.Options{Host: e.Host(), Home: t.TempDir(), Labels: container.Labels{container.LabelRun: "r1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("close the client: %v", err)
		}
	})
	return r
}

// The adapter sees through the engine what the fake's program does.
func TestContainer(t *testing.T) {
	t.Parallel()
	fake := &containertest.Fake{About: container.Info{Version: "20.10.24"}}
	fake.AddLocal("greeter", containertest.Image{Main: func(_ context.Context, spec container.Spec, out container.Streams) int {
		_, _ = io.WriteString(out.Stdout, spec.Command[0]+" "+spec.Env["WHOM"]+"\n")
		_, _ = io.WriteString(out.Stderr, "and goodbye\n")
		return 3
	}})
	e := dockertest.New(t, fake)
	r := runtimeOf(t, e)
	info, err := r.Info(t.Context())
	if err != nil || info.Version != "20.10.24" || info.APIVersion != dockertest.APIVersion {
		t.Fatalf("Info = %+v, %v", info, err)
	}
	var stdout, stderr bytes.Buffer
	c, err := r.Run(t.Context(), container.Spec{
		Step: "greet", Image: "greeter", Command: []string{"hello"}, Env: map[string]string{"WHOM": "world"}, Network: container.NetworkNone,
	}, container.Streams{Stdout: &stdout, Stderr: &stderr})
	if err != nil {
		t.Fatal(err)
	}
	exit, err := c.Wait(t.Context())
	if err != nil || exit.Code != 3 {
		t.Errorf("Wait = %+v, %v; want code 3", exit, err)
	}
	if stdout.String() != "hello world\n" || stderr.String() != "and goodbye\n" {
		t.Errorf("output = %q and %q", stdout.String(), stderr.String())
	}
	rows, err := r.List(t.Context(), container.Labels{container.LabelRun: "r1"})
	if err != nil || len(rows) != 1 || rows[0].Running {
		t.Errorf("List = %+v, %v; want one that ended", rows, err)
	}
	if err := r.Remove(t.Context(), c.ID()); err != nil {
		t.Error(err)
	}
	if left := e.Containers(); len(left) != 0 {
		t.Errorf("left over: %+v", left)
	}
}

func TestPullFails(t *testing.T) {
	t.Parallel()
	fake := &containertest.Fake{OnPull: func(context.Context, string, func(container.Progress)) error {
		return errors.New(`Get "https://registry.example/v2/": dial tcp: lookup registry.example: no such host`)
	}}
	e := dockertest.New(t, fake)
	_, err := runtimeOf(t, e).Ensure(t.Context(), "registry.example/nvidia/pytorch:25.03-py3", nil)
	if !errors.Is(err, container.ErrRegistry) {
		t.Errorf("Pull = %v, want %v", err, container.ErrRegistry)
	}
	want := []string{"POST /images/create?fromImage=registry.example/nvidia/pytorch&tag=25.03-py3"}
	if diff := cmp.Diff(want, e.Requests()[1:]); diff != "" { // the first is the client's ping
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestStopOfOneThatWasLeft(t *testing.T) {
	t.Parallel()
	e := dockertest.New(t, &containertest.Fake{})
	id := e.Leave(container.Summary{Name: "old", Running: true, Labels: container.Labels{"a": "b"}})
	c, err := runtimeOf(t, e).Open(t.Context(), "old")
	if err != nil || c.ID() != id {
		t.Fatalf("Open = %v, %v; want %s", c, err, id)
	}
	if err := c.Stop(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	exit, err := c.Wait(t.Context())
	if err != nil || exit.Code != 0 {
		t.Errorf("Wait = %+v, %v", exit, err)
	}
	if left := e.Containers(); len(left) != 1 || left[0].Running {
		t.Errorf("containers = %+v; want one that ended", left)
	}
}

// A program gets its mounts, and a port of the host that the adapter reaches; two containers do not get the same one.
func TestPublishedPort(t *testing.T) {
	t.Parallel()
	const inside = 8001
	specs := make(chan container.Spec, 2)
	fake := &containertest.Fake{}
	fake.AddLocal("server", containertest.Image{Main: func(ctx context.Context, spec container.Spec, _ container.Streams) int {
		specs <- spec
		<-ctx.Done()
		return 0
	}})
	e := dockertest.New(t, fake)
	r := runtimeOf(t, e)
	in, out := t.TempDir(), t.TempDir()
	spec := container.Spec{
		Step: "serve", Role: container.RoleServer, Image: "server", Network: container.NetworkPublish, ReadOnly: true,
		Inputs: []container.Mount{{Source: in, Target: "/in"}}, Outputs: []container.Mount{{Source: out, Target: "/out"}},
		Publish: []container.Port{{Container: inside, Address: netip.MustParseAddr("127.0.0.1")}},
	}
	c, err := r.Run(t.Context(), spec, container.Streams{})
	if err != nil {
		t.Fatal(err)
	}
	got := <-specs
	if diff := cmp.Diff([][]container.Mount{spec.Inputs, spec.Outputs}, [][]container.Mount{got.Inputs, got.Outputs}); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
	if !got.ReadOnly || got.Step != "serve" || got.Role != container.RoleServer || len(got.Publish) != 1 || got.Publish[0].Container != inside {
		t.Errorf("the program has %+v", got)
	}
	rows := e.Containers()
	if len(rows) != 1 || rows[0].Ports[inside].Port() == 0 {
		t.Fatalf("containers: %+v", rows)
	}
	listed, err := r.List(t.Context(), nil)
	if err != nil || len(listed) != 1 || listed[0].Ports[inside] != rows[0].Ports[inside] {
		t.Errorf("List = %+v, %v", listed, err)
	}
	spec.Publish[0].Host, spec.Publish[0].Required = rows[0].Ports[inside].Port(), true
	if _, err := r.Run(t.Context(), spec, container.Streams{}); !errors.Is(err, container.ErrPortTaken) {
		t.Errorf("a second one on its port: %v, want %v", err, container.ErrPortTaken)
	}
	if err := r.Remove(t.Context(), c.ID()); err != nil {
		t.Error(err)
	}
	if left := e.Containers(); len(left) != 0 {
		t.Errorf("left over: %+v", left)
	}
}

// What a container wrote can be read with its times, and not once its log is hidden.
func TestLogs(t *testing.T) {
	t.Parallel()
	fake := &containertest.Fake{}
	fake.AddLocal("talker", containertest.Image{Main: func(_ context.Context, _ container.Spec, out container.Streams) int {
		_, _ = io.WriteString(out.Stdout, "one\n")
		_, _ = io.WriteString(out.Stderr, "two\n")
		_, _ = io.WriteString(out.Stdout, "three\n")
		return 0
	}})
	e := dockertest.New(t, fake)
	c, err := runtimeOf(t, e).Run(t.Context(), container.Spec{Step: "talk", Image: "talker", Network: container.NetworkNone}, container.Streams{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	read := func(o container.LogOptions) (lines []string, err error) {
		err = c.Logs(t.Context(), o, func(l container.LogLine) error {
			if l.Time.IsZero() || l.Stderr != (l.Text == "two") {
				t.Errorf("%+v", l)
			}
			lines = append(lines, l.Text)
			return nil
		})
		return lines, err
	}
	for _, tt := range []struct {
		o    container.LogOptions
		want []string
	}{
		{container.LogOptions{Tail: container.AllLines}, []string{"one", "two", "three"}},
		{container.LogOptions{Tail: container.AllLines, Follow: true}, []string{"one", "two", "three"}},
		{container.LogOptions{Tail: 1}, []string{"three"}},
		{container.LogOptions{Tail: container.AllLines, Since: time.Now().Add(time.Hour)}, nil},
	} {
		if lines, err := read(tt.o); !cmp.Equal(tt.want, lines) || err != nil {
			t.Errorf("%+v: %q, %v; want %q", tt.o, lines, err, tt.want)
		}
	}
	e.HideLogs()
	if lines, err := read(container.LogOptions{Tail: container.AllLines}); err == nil || len(lines) > 0 {
		t.Errorf("hidden: %q, %v", lines, err)
	}
}

// An image is built by the fake, and is there afterwards; the engine says what it has of an image and of one that it
// has not.
func TestBuild(t *testing.T) {
	t.Parallel()
	var asked container.BuildSpec
	broken := errors.New("the compiler is broken")
	fake := &containertest.Fake{OnBuild: func(_ context.Context, spec container.BuildSpec, tell func(container.Progress)) (containertest.Image, error) {
		if spec.Tag == "broken:1" {
			return containertest.Image{}, broken
		}
		asked = spec
		tell(container.Progress{Text: "Step 1/1 : FROM base"})
		return containertest.Image{Image: container.Image{Env: map[string]string{"A": "b"}}}, nil
	}}
	r := runtimeOf(t, dockertest.New(t, fake))
	if _, err := r.Resolve(t.Context(), "made:1"); !errors.Is(err, container.ErrNotFound) {
		t.Errorf("before: %v, want %v", err, container.ErrNotFound)
	}
	spec := container.BuildSpec{
		Tag: "made:1", Dockerfile: []byte("FROM base\n"), Args: map[string]string{"BASE": "base"},
		Labels: container.Labels{"a": "b"},
	}
	var said []string
	built, err := r.Build(t.Context(), spec, func(p container.Progress) { said = append(said, p.Text) })
	if err != nil {
		t.Fatal(err)
	}
	if asked.Tag != spec.Tag || asked.Args["BASE"] != "base" || asked.Labels["a"] != "b" || !slices.Contains(said, "Step 1/1 : FROM base") {
		t.Errorf("asked is %+v, said %q", asked, said)
	}
	if found, err := r.Resolve(t.Context(), "made:1"); err != nil || found.ID != built.ID || found.Env["A"] != "b" {
		t.Errorf("Resolve = %+v, %v; want %s", found, err, built.ID)
	}
	spec.Tag = "broken:1"
	if _, err := r.Build(t.Context(), spec, nil); err == nil || !strings.Contains(err.Error(), broken.Error()) {
		t.Errorf("Build = %v, want %v", err, broken)
	}
}

// What an engine refuses, it refuses with an engine's status and words.
func TestRefusals(t *testing.T) {
	t.Parallel()
	fake := &containertest.Fake{InfoErr: errors.New("the store is broken")}
	fake.AddLocal("image", containertest.Image{})
	e := dockertest.New(t, fake)
	running := e.Leave(container.Summary{Name: "running", Running: true})
	e.Leave(container.Summary{Name: "ended"})
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", strings.TrimPrefix(e.Host(), "unix://"))
	}}}
	defer client.CloseIdleConnections()
	for _, tt := range []struct {
		request, body string
		status        int
		says          string
	}{
		{"GET /v1.42/info", "", http.StatusBadRequest, "client version 1.42 is too new. Maximum supported API version is 1.41"},
		{"GET /v1.11/info", "", http.StatusBadRequest, "client version 1.11 is too old. Minimum supported API version is 1.12"},
		{"GET /v1.41/info", "", http.StatusInternalServerError, "the store is broken"},
		{"GET /v1.41/version", "", http.StatusInternalServerError, "the store is broken"},
		{"GET /images/image", "", http.StatusNotFound, "page not found"},
		{"GET /images/none/json", "", http.StatusNotFound, "No such image: none"},
		{"POST /build?buildargs=x", "", http.StatusBadRequest, ""},
		{"GET /containers/json?filters=x", "", http.StatusBadRequest, ""},
		{"GET /containers/none/json", "", http.StatusNotFound, "No such container: none"},
		{"POST /containers/create", "{", http.StatusBadRequest, ""},
		{"POST /containers/create", `{"Image":"none"}`, http.StatusNotFound, "No such image: none"},
		{"POST /containers/create?name=ended", `{"Image":"image"}`, http.StatusConflict, `the container name "ended" is already in use`},
		{
			"POST /containers/create", `{"Image":"image","HostConfig":{"Mounts":[{"Type":"volume"}]}}`, http.StatusBadRequest,
			`mount of type "volume": this engine binds only`,
		},
		{
			"POST /containers/create", `{"Image":"image","HostConfig":{"PortBindings":{"70000/tcp":[]}}}`, http.StatusBadRequest,
			`port "70000" is none`,
		},
		{"POST /containers/ended/kill", "", http.StatusConflict, "is not running"},
		{"POST /containers/ended/stop", "", http.StatusNotModified, ""},
		{"DELETE /containers/running", "", http.StatusConflict, "you cannot remove a running container " + running},
		{"DELETE /containers/running?force=1", "", http.StatusNoContent, ""},
		{"DELETE /containers/ended", "", http.StatusNoContent, ""},
	} {
		method, path, _ := strings.Cut(tt.request, " ")
		request, err := http.NewRequestWithContext(t.Context(), method, "http://engine"+path, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(response.Body)
		if err := errors.Join(err, response.Body.Close()); err != nil {
			t.Fatal(err)
		}
		var answer struct{ Message string }
		if response.StatusCode >= http.StatusBadRequest {
			if err := json.Unmarshal(said, &answer); err != nil || answer.Message == "" {
				t.Errorf("%s: %q, %v", tt.request, said, err)
			}
		}
		if response.StatusCode != tt.status || !strings.Contains(answer.Message, tt.says) {
			t.Errorf("%s: %d %s, want %d %s", tt.request, response.StatusCode, said, tt.status, tt.says)
		}
	}
	if left := e.Containers(); len(left) != 0 {
		t.Errorf("left over: %+v", left)
	}
}
