package docker

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/pkg/stdcopy"

	"github.com/dalirun/dalirun/internal/container"
)

// api is an Engine API that answers as a test says, by method and path below the version.
type api struct {
	mu       sync.Mutex
	requests []string
	answers  map[string]http.HandlerFunc
}

// serve starts the API on a socket of its own and returns a runtime for it.
func (a *api) serve(t *testing.T, o Options) *Runtime {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "engine.sock")
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: a, ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	o.Host = "unix://" + socket
	if o.Home == "" {
		o.Home = t.TempDir()
	}
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// ServeHTTP answers what every test needs, and what this one said.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if rest, ok := strings.CutPrefix(path, "/v1."); ok {
		_, path, _ = strings.Cut(rest, "/")
		path = "/" + path
	}
	key := r.Method + " " + path
	a.mu.Lock()
	a.requests = append(a.requests, key)
	answer := a.answers[key]
	a.mu.Unlock()
	switch {
	case answer != nil:
		answer(w, r)
	case path == "/_ping":
		w.Header().Set("Api-Version", "1.41")
	case path == "/version":
		say(`{"Version":"20.10.24","ApiVersion":"1.41","Arch":"amd64","Components":[{"Name":"Engine","Version":"20.10.24"}]}`)(w, r)
	case path == "/info":
		say(`{"NCPU":2,"MemTotal":1,"DockerRootDir":"/var/lib/docker","SecurityOptions":["name=seccomp,profile=default"],"Runtimes":{"runc":{}}}`)(w, r)
	default:
		fail(http.StatusNotFound, "no such thing: "+key)(w, r)
	}
}

func (a *api) count(key string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, k := range a.requests {
		if k == key {
			n++
		}
	}
	return n
}

func say(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	}
}

func fail(status int, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"message": message})
	}
}

func TestInfoOfASocketThatHangs(t *testing.T) {
	t.Parallel()
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	a := &api{answers: map[string]http.HandlerFunc{"GET /version": hang, "HEAD /_ping": hang, "GET /_ping": hang}}
	r := a.serve(t, Options{})
	start := time.Now()
	_, err := r.Info(t.Context())
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("took %s", d)
	}
	if !errors.Is(err, container.ErrUnreachable) || !strings.Contains(err.Error(), "within 2s") || !strings.Contains(err.Error(), r.endpoint) {
		t.Errorf("got %v", err)
	}
}

func TestInfoOfPodman(t *testing.T) {
	t.Parallel()
	a := &api{answers: map[string]http.HandlerFunc{
		"GET /version": say(`{"Version":"4.3.1","ApiVersion":"1.41","Arch":"arm64","Components":[{"Name":"Podman Engine","Version":"4.3.1"}]}`),
		"GET /info":    say(`{"NCPU":1,"SecurityOptions":["name=rootless","name=selinux"]}`),
	}}
	r := a.serve(t, Options{})
	info, err := r.Info(t.Context())
	if err != nil || info.Name != "Podman Engine" || !info.Rootless || info.Arch != "arm64" || info.APIVersion != "1.41" {
		t.Errorf("got %+v, %v", info, err)
	}
	if f, ok := r.remembered(); !ok || !f.info.Podman() || !f.selinux {
		t.Errorf("remembered %+v, %t", f, ok)
	}
}

func TestInfoListsCDIDevices(t *testing.T) {
	t.Parallel()
	a := &api{answers: map[string]http.HandlerFunc{
		"GET /info": say(`{"DiscoveredDevices":[{"Source":"cdi","ID":"nvidia.com/gpu=all"},{"Source":"cdi","ID":"vendor.com/nic=0"}]}`),
	}}
	info, err := a.serve(t, Options{}).Info(t.Context())
	if err != nil || len(info.CDIDevices) != 1 || info.CDIDevices[0] != "nvidia.com/gpu=all" {
		t.Errorf("got %+v, %v", info, err)
	}
}

func TestInfoSaysWhereImagesAre(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ status, want string }{
		"a driver of the engine":     {`[["Backing Filesystem","extfs"],["Supports d_type","true"]]`, "/data/docker"},
		"containerd's image store":   {`[["driver-type","io.containerd.snapshotter.v1"]]`, ""},
		"nothing, as Podman says it": {`null`, "/data/docker"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &api{answers: map[string]http.HandlerFunc{
				"GET /info": say(`{"Driver":"overlayfs","DriverStatus":` + c.status + `,"DockerRootDir":"/data/docker","Containerd":{"Address":"/run/containerd/containerd.sock"}}`),
			}}
			info, err := a.serve(t, Options{}).Info(t.Context())
			if err != nil || info.ImageDir != c.want || info.RootDir != "/data/docker" {
				t.Errorf("got %+v, %v", info, err)
			}
		})
	}
}

// TestPullWithStaleLogin holds that old credentials do not keep a public image away.
func TestPullWithStaleLogin(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	addContext(t, filepath.Join(home, ".docker"), "x", "unix:///x")
	auth := base64.StdEncoding.EncodeToString([]byte("me:stale"))
	write(t, filepath.Join(home, ".docker", "config.json"), fmt.Sprintf(`{"auths":{"registry.example":{"auth":%q}}}`, auth), 0o600)
	var logins []string
	a := &api{answers: map[string]http.HandlerFunc{
		"GET /images/registry.example/public:1/json": say(`{"Id":"sha256:1","RootFS":{"Type":"layers","Layers":["sha256:l"]},"RepoDigests":["other.example/x@sha256:` + strings.Repeat("0", 64) +
			`","registry.example/public@sha256:` + strings.Repeat("a", 64) + `"]}`),
	}}
	a.answers["POST /images/create"] = func(w http.ResponseWriter, r *http.Request) {
		logins = append(logins, r.Header.Get("X-Registry-Auth"))
		if login := logins[len(logins)-1]; login != "" {
			say(`{"errorDetail":{"message":"unauthorized: incorrect username or password"},"error":"x"}`)(w, r)
			return
		}
		say(`{"status":"Pulling fs layer","id":"a"}{"status":"Pull complete","id":"a"}`)(w, r)
	}
	r := a.serve(t, Options{Home: home})
	img, err := r.Ensure(t.Context(), "registry.example/public:1", nil)
	if err != nil || img.Digest != "sha256:"+strings.Repeat("a", 64) || len(img.Layers) != 1 || img.Layers[0] != "sha256:l" {
		t.Errorf("got %+v, %v", img, err)
	}
	if len(logins) != 2 || !strings.Contains(decode(t, logins[0]), "stale") || logins[1] != "" {
		t.Errorf("logins %q", logins)
	}
}

// TestLogin holds that a look-up gets the credentials of a pull: those of the folder that is named, and of Docker Hub by any of its names.
func TestLogin(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	auth := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	write(t, filepath.Join(dir, "config.json"), fmt.Sprintf(`{"auths":{"a.example:5000":{"auth":%q},"https://index.docker.io/v1/":{"auth":%q}}}`,
		auth("me:secret"), auth("hub:word")), 0o600)
	r, err := New(Options{Host: "unix:///x", Env: func(name string) string { return map[string]string{"DOCKER_CONFIG": dir}[name] }})
	if err != nil {
		t.Fatal(err)
	}
	for registry, want := range map[string]container.Login{
		"a.example:5000":  {Username: "me", Password: "secret"},
		"docker.io":       {Username: "hub", Password: "word"},
		"index.docker.io": {Username: "hub", Password: "word"},
		"b.example":       {},
	} {
		if got, err := r.Login(t.Context(), registry); err != nil || got != want {
			t.Errorf("%s: %+v, %v", registry, got, err)
		}
	}
}

func decode(t *testing.T, s string) string {
	t.Helper()
	data, err := base64.URLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestPullErrors(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		want   error
	}{
		"at once":       {fail(http.StatusNotFound, "manifest for a.example/b:1 not found: manifest unknown"), container.ErrNotFound},
		"in the stream": {say(`{"status":"Waiting","id":"a"}{"errorDetail":{"message":"write /x: no space left on device"}}`), container.ErrNoSpace},
		"no network":    {fail(http.StatusInternalServerError, "Get \"https://a.example/v2/\": dial tcp: lookup a.example: no such host"), container.ErrRegistry},
		"denied":        {fail(http.StatusNotFound, "pull access denied for a.example/b, repository does not exist"), container.ErrDenied},
		"broken off":    {say(`{"status":"Waiting","id":"a"}{"sta`), container.ErrRegistry},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &api{answers: map[string]http.HandlerFunc{"POST /images/create": tt.answer}}
			_, err := a.serve(t, Options{}).Ensure(t.Context(), "a.example/b:1", nil)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), "a.example/b:1") {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// TestCreateThatIsInterrupted holds that a container is removed that the engine made after its client had given up.
func TestCreateThatIsInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var name string
	a := &api{answers: map[string]http.HandlerFunc{}}
	a.answers["POST /containers/create"] = func(w http.ResponseWriter, r *http.Request) {
		name = r.URL.Query().Get("name")
		a.mu.Lock()
		a.answers["DELETE /containers/"+name] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }
		a.mu.Unlock()
		cancel()
		say(`{"Id":"made-all-the-same"}`)(w, r)
	}
	r := a.serve(t, Options{Labels: container.Labels{container.LabelRun: "run-1"}})
	_, err := r.Run(ctx, container.Spec{Step: "export-onnx", Image: "x"}, container.Streams{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if a.count("DELETE /containers/"+name) != 1 || !strings.HasPrefix(name, "dalirun-export-onnx-run-1-") {
		t.Errorf("%s was not removed: %q", name, a.requests)
	}
}

// TestFollowedLogThatEndsEarly plays an engine that refuses attaching and whose followed log leaves out the end.
func TestFollowedLogThatEndsEarly(t *testing.T) {
	t.Parallel()
	a := &api{answers: map[string]http.HandlerFunc{
		"POST /containers/create":   say(`{"Id":"c"}`),
		"POST /containers/c/attach": fail(http.StatusConflict, "can only attach to created or running containers"),
		"POST /containers/c/start":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"POST /containers/c/wait":   say(`{"StatusCode":3}`),
		"GET /containers/c/json":    say(`{"Id":"c","Name":"/c","State":{"OOMKilled":false}}`),
	}}
	a.answers["GET /containers/c/logs"] = func(w http.ResponseWriter, r *http.Request) {
		stdout, stderr := stdcopy.NewStdWriter(w, stdcopy.Stdout), stdcopy.NewStdWriter(w, stdcopy.Stderr)
		_, _ = io.WriteString(stdout, "first ")
		_, _ = io.WriteString(stderr, "warning")
		if r.URL.Query().Get("follow") != "1" {
			_, _ = io.WriteString(stdout, "last")
			_, _ = io.WriteString(stderr, "!")
		}
	}
	var stdout, stderr strings.Builder
	c, err := a.serve(t, Options{}).Run(t.Context(), container.Spec{Step: "s", Image: "x"}, container.Streams{Stdout: &stdout, Stderr: &stderr})
	if err != nil {
		t.Fatal(err)
	}
	exit, err := c.Wait(t.Context())
	if err != nil || exit.Code != 3 || stdout.String() != "first last" || stderr.String() != "warning!" {
		t.Errorf("got %+v, %v, %q, %q", exit, err, stdout.String(), stderr.String())
	}
}

// TestEngineDiesWhileItIsWaitedFor holds that this is no failure of the container.
func TestEngineDiesWhileItIsWaitedFor(t *testing.T) {
	t.Parallel()
	a := &api{answers: map[string]http.HandlerFunc{
		"POST /containers/create":   say(`{"Id":"c"}`),
		"POST /containers/c/attach": fail(http.StatusConflict, "can only attach to created or running containers"),
		"POST /containers/c/start":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"GET /containers/c/logs":    say(""),
		"POST /containers/c/wait": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
	}}
	c, err := a.serve(t, Options{}).Run(t.Context(), container.Spec{Step: "s", Image: "x"}, container.Streams{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Wait(t.Context())
	if !errors.Is(err, container.ErrUnreachable) || errors.Is(err, container.ErrFailing) ||
		!regexp.MustCompile(`^wait for dalirun-s-\w+: container engine does not answer at unix://\S+$`).MatchString(err.Error()) {
		t.Errorf("got %v", err)
	}
}

// A proxy before an engine may forbid a request that the engine itself would do.
func TestForbidden(t *testing.T) {
	t.Parallel()
	a := &api{answers: map[string]http.HandlerFunc{"POST /containers/create": fail(http.StatusForbidden, "not by this policy")}}
	_, err := a.serve(t, Options{}).Run(t.Context(), container.Spec{Step: "s", Image: "x"}, container.Streams{})
	if !errors.Is(err, container.ErrPermission) || !strings.Contains(err.Error(), "not by this policy") ||
		!strings.Contains(container.Advice(err), "or a proxy before it, forbids this request") {
		t.Errorf("%v, advice %q", err, container.Advice(err))
	}
}

func TestBuildErrors(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		want   error
		build  bool
	}{
		"a step":         {say(`{"stream":"Step 1\n"}{"errorDetail":{"code":1,"message":"The command '/bin/sh -c curl' returned a non-zero code: 6"}}`), nil, true},
		"the dockerfile": {fail(http.StatusBadRequest, "dockerfile parse error line 1: unknown instruction: FORM"), nil, true},
		"the base":       {say(`{"errorDetail":{"message":"Get \"https://a.example/v2/\": dial tcp: lookup a.example: no such host"}}`), container.ErrRegistry, true},
		"the disk":       {say(`{"errorDetail":{"message":"write /x: no space left on device"}}`), container.ErrNoSpace, true},
		"nothing":        {say(`{"stream":"Step 1\n"}`), nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &api{answers: map[string]http.HandlerFunc{"POST /build": tt.answer}}
			_, err := a.serve(t, Options{}).Build(t.Context(), container.BuildSpec{Tag: "t"}, nil)
			failed, ok := errors.AsType[*container.BuildError](err)
			if ok != tt.build || ok && failed.Reason == "" || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got %v", err)
			}
			if tt.want == nil && (errors.Is(err, container.ErrRegistry) || errors.Is(err, container.ErrNotFound)) {
				t.Errorf("%v blames a registry", err)
			}
		})
	}
}

func TestBuildSendsProxies(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	addContext(t, filepath.Join(home, ".docker"), "x", "unix:///x")
	write(t, filepath.Join(home, ".docker", "config.json"), `{"proxies":{"default":{"httpProxy":"http://proxy.example:3128"}}}`, 0o600)
	var args map[string]string
	a := &api{answers: map[string]http.HandlerFunc{"POST /build": func(w http.ResponseWriter, r *http.Request) {
		_ = json.Unmarshal([]byte(r.URL.Query().Get("buildargs")), &args)
		fail(http.StatusBadRequest, "seen")(w, r)
	}}}
	_, _ = a.serve(t, Options{Home: home}).Build(t.Context(), container.BuildSpec{Tag: "t", Args: map[string]string{"BASE": "b"}}, nil)
	if args["BASE"] != "b" || args["HTTP_PROXY"] != "http://proxy.example:3128" || args["http_proxy"] != args["HTTP_PROXY"] {
		t.Errorf("build arguments %q", args)
	}
}

// An engine reports addresses of both families without brackets, and a port of all addresses as one of none. Such a port
// is listed as it was published, and reached on the loopback address.
func TestAddr(t *testing.T) {
	t.Parallel()
	for ip, want := range map[string]struct{ published, dialled string }{
		"": {"0.0.0.0:8001", "127.0.0.1:8001"}, "0.0.0.0": {"0.0.0.0:8001", "127.0.0.1:8001"},
		"192.0.2.1": {"192.0.2.1:8001", "192.0.2.1:8001"}, "::": {"[::]:8001", "[::1]:8001"}, "::1": {"[::1]:8001", "[::1]:8001"},
		"2001:db8::1": {"[2001:db8::1]:8001", "[2001:db8::1]:8001"},
	} {
		a := &api{answers: map[string]http.HandlerFunc{
			"GET /containers/c/json": say(`{"Id":"c","Name":"/c","NetworkSettings":{"Ports":{"8001/tcp":[{"HostIp":"` + ip +
				`","HostPort":"8001"}]}}}`),
			"GET /containers/json": say(`[{"Id":"c","Names":["/c"],"State":"running","Ports":[{"IP":"` + ip +
				`","PrivatePort":8001,"PublicPort":8001,"Type":"tcp"}]}]`),
		}}
		r := a.serve(t, Options{})
		c, err := r.Open(t.Context(), "c")
		if err != nil {
			t.Fatal(err)
		}
		if addr, err := c.Addr(t.Context(), 8001); err != nil || addr.String() != want.dialled {
			t.Errorf("%q is %s, %v; want %s", ip, addr, err, want.dialled)
		}
		list, err := r.List(t.Context(), nil)
		if err != nil || len(list) != 1 || list[0].Ports[8001].String() != want.published {
			t.Errorf("%q is listed as %+v, %v; want %s", ip, list, err, want.published)
		}
	}
}

// TestDialOfAnotherHost holds that an address of another host's loopback interface is not taken for one of this host's, and
// that an error names every way that was tried.
func TestDialOfAnotherHost(t *testing.T) {
	t.Parallel()
	localAddr := listenHere(t)
	a := &api{answers: map[string]http.HandlerFunc{
		"GET /containers/c/json": say(fmt.Sprintf(
			`{"Id":"c","Name":"/c","NetworkSettings":{"Ports":{"8001/tcp":[{"HostIp":"127.0.0.1","HostPort":"%d"}]}}}`, localAddr.Port())),
		"POST /containers/c/exec": fail(http.StatusConflict, "Container c is not running"),
	}}
	r := a.serve(t, Options{})
	c, err := r.Open(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := c.Dial(t.Context(), 8001)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()

	r = a.serve(t, Options{})
	r.remote = true
	if c, err = r.Open(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	if addr, err := c.Addr(t.Context(), 8001); err != nil || addr != localAddr {
		t.Errorf("it is published at %s, %v, want %s", addr, err, localAddr)
	}
	_, err = c.Dial(t.Context(), 8001)
	for _, part := range []string{
		"dial c:8001: ", localAddr.String() + " is of the container engine's host alone",
		"forwarder inside: start python3: Container c is not running",
	} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("got %v, want %q in it", err, part)
		}
	}
}

// listenHere returns an address of this host where something listens.
func listenHere(t *testing.T) netip.AddrPort {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return netip.MustParseAddrPort(l.Addr().String())
}

// A container that publishes one of its ports twice is named whichever of the two is in the way.
func TestPortTakenByASecondPublication(t *testing.T) {
	t.Parallel()
	a := &api{answers: map[string]http.HandlerFunc{
		"GET /containers/json": say(`[{"Id":"1","Names":["/other"],"State":"running","Ports":[
			{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8000,"Type":"tcp"},{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8001,"Type":"tcp"}]}]`),
	}}
	r := a.serve(t, Options{})
	for _, port := range []uint16{8000, 8001} {
		spec := container.Spec{Publish: []container.Port{{Container: 8001, Host: port, Required: true}}}
		err := r.yieldPort(t.Context(), &spec, fmt.Errorf("Bind for 127.0.0.1:%d failed: port is already allocated", port))
		if !errors.Is(err, container.ErrPortTaken) || !strings.Contains(err.Error(), " by container other: ") {
			t.Errorf("%d: %v", port, err)
		}
	}
}

// Without its userland proxy a container engine's ports seem free until it is asked for them.
func TestPortTakenByAServer(t *testing.T) {
	t.Parallel()
	for labels, want := range map[string]string{
		`{"io.dalirun.role":"server","io.dalirun.workspace":"/a b"}`: " by container other, which `dalirun stop --workspace '/a b'` stops: free it or name another one",
		`{"io.dalirun.role":"batch","io.dalirun.workspace":"/a b"}`:  " by container other: free it or name another one",
		`{}`: " by container other: free it or name another one",
	} {
		a := &api{answers: map[string]http.HandlerFunc{
			"GET /containers/json": say(`[{"Id":"0","Names":["/apart"],"State":"running","Ports":[{"IP":"192.0.2.7","PrivatePort":8001,"PublicPort":8001,"Type":"tcp"}]},
				{"Id":"1","Names":["/other"],"State":"running","Labels":` + labels + `,"Ports":[{"IP":"127.0.0.1","PrivatePort":8001,"PublicPort":8001,"Type":"tcp"}]}]`),
		}}
		r := a.serve(t, Options{})
		spec := container.Spec{Publish: []container.Port{{Container: 8001, Host: 8001, Required: true}}}
		err := r.yieldPort(t.Context(), &spec, errors.New("Bind for 127.0.0.1:8001 failed: port is already allocated"))
		if !errors.Is(err, container.ErrPortTaken) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v; want %s", labels, err, want)
		}
	}
}

// Podman does not stop what is paused, and Docker lets it go on by itself.
func TestStopWhatIsPaused(t *testing.T) {
	t.Parallel()
	done := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }
	refused := fail(http.StatusInternalServerError, "can only stop created or running containers. c is in state paused: container state improper")
	for name, tt := range map[string]struct {
		stop           []http.HandlerFunc // the last one stays
		unpause        http.HandlerFunc
		stops, resumes int
		want           string // in the error; empty is none
	}{
		"Docker":                {[]http.HandlerFunc{done}, done, 1, 0, ""},
		"Podman":                {[]http.HandlerFunc{refused, done}, done, 2, 1, ""},
		"it does not go on":     {[]http.HandlerFunc{refused}, fail(http.StatusInternalServerError, "frozen for ever"), 1, 1, "frozen for ever"},
		"Podman 4.3":            {[]http.HandlerFunc{fail(http.StatusInternalServerError, "container c is running or paused, refusing to clean up: container state improper"), done}, done, 2, 1, ""},
		"another one paused it": {[]http.HandlerFunc{refused}, done, 2, 1, "is in state paused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &api{answers: map[string]http.HandlerFunc{
				"GET /containers/c/json": say(`{"Id":"c","Name":"/c"}`), "POST /containers/c/stop": inTurn(tt.stop), "POST /containers/c/unpause": tt.unpause,
			}}
			c, err := a.serve(t, Options{}).Open(t.Context(), "c")
			if err != nil {
				t.Fatal(err)
			}
			err = c.Stop(t.Context(), time.Second)
			if (err != nil) != (tt.want != "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if stops, resumes := a.count("POST /containers/c/stop"), a.count("POST /containers/c/unpause"); stops != tt.stops || resumes != tt.resumes {
				t.Errorf("%d stops, %d resumed", stops, resumes)
			}
		})
	}
}
