package dockertest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
)

func (e *Engine) handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, handle := range map[string]http.HandlerFunc{
		"GET /_ping":                  e.ping,
		"GET /version":                e.version,
		"GET /info":                   e.info,
		"GET /images/json":            e.images,
		"GET /images/{ref...}":        e.image,
		"DELETE /images/{ref...}":     e.removeImage,
		"POST /images/{ref...}":       e.tagImage,
		"POST /images/create":         e.pull,
		"POST /build":                 e.build,
		"GET /containers/json":        e.list,
		"POST /containers/create":     e.create,
		"POST /containers/{id}/start": e.withEntry(e.start),
		"GET /containers/{id}/logs":   e.withEntry(e.logs),
		"POST /containers/{id}/wait":  e.withEntry(e.wait),
		"GET /containers/{id}/json":   e.withEntry(e.inspect),
		"POST /containers/{id}/stop":  e.withEntry(e.stop),
		"POST /containers/{id}/kill":  e.withEntry(e.kill),
		"DELETE /containers/{id}":     e.withEntry(e.remove),
	} {
		mux.HandleFunc(pattern, handle)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.note(r)
		w.Header().Set("Api-Version", APIVersion)
		w.Header().Set("Ostype", "linux")
		if asked := versionPrefix().FindStringSubmatch(r.URL.Path); asked != nil {
			switch { // the engine's words
			case newer(asked[1], APIVersion):
				fail(w, http.StatusBadRequest,
					fmt.Errorf("client version %s is too new. Maximum supported API version is %s", asked[1], APIVersion))
				return
			case newer(minAPIVersion, asked[1]):
				fail(w, http.StatusBadRequest, fmt.Errorf("client version %s is too old. Minimum supported API version is %s, "+
					"please upgrade your client to a newer version", asked[1], minAPIVersion))
				return
			}
		}
		r.URL.Path = versionPrefix().ReplaceAllString(r.URL.Path, "/")
		mux.ServeHTTP(w, r)
	})
}

// newer says whether a version of the API is newer than another. The first number of all is 1.
func newer(a, b string) bool {
	minor := func(version string) int {
		_, digits, _ := strings.Cut(version, ".")
		n, _ := strconv.Atoi(digits) // the path was matched before
		return n
	}
	return minor(a) > minor(b)
}

func (*Engine) ping(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "OK") }

func (e *Engine) version(w http.ResponseWriter, r *http.Request) {
	about, err := e.fake.Info(r.Context())
	if err != nil {
		fail(w, http.StatusInternalServerError, err)
		return
	}
	answer(w, http.StatusOK, map[string]any{
		"Version": about.Version, "ApiVersion": APIVersion, "MinAPIVersion": minAPIVersion,
		"Os": "linux", "Arch": runtime.GOARCH,
		"Components": []map[string]any{{"Name": "Engine", "Version": about.Version}},
	})
}

func (e *Engine) info(w http.ResponseWriter, r *http.Request) {
	about, err := e.fake.Info(r.Context())
	if err != nil {
		fail(w, http.StatusInternalServerError, err)
		return
	}
	runtimes := map[string]any{"runc": map[string]any{"path": "runc"}}
	for _, name := range about.Runtimes {
		runtimes[name] = map[string]any{"path": name}
	}
	devices := []map[string]string{}
	for _, id := range about.CDIDevices {
		devices = append(devices, map[string]string{"Source": "cdi", "ID": id})
	}
	answer(w, http.StatusOK, map[string]any{
		"ServerVersion": about.Version, "NCPU": about.CPUs, "MemTotal": about.Memory, "DockerRootDir": about.RootDir,
		"OSType": "linux", "Architecture": "x86_64", "Runtimes": runtimes, "DiscoveredDevices": devices,
	})
}

func (e *Engine) image(w http.ResponseWriter, r *http.Request) {
	ref, ok := strings.CutSuffix(r.PathValue("ref"), "/json")
	if !ok {
		fail(w, http.StatusNotFound, errors.New("page not found"))
		return
	}
	img, err := e.fake.Resolve(r.Context(), ref)
	if err != nil {
		fail(w, http.StatusNotFound, fmt.Errorf("No such image: %s", ref)) //nolint:staticcheck // the engine's words
		return
	}
	var env, digests []string
	for _, name := range slices.Sorted(maps.Keys(img.Env)) {
		env = append(env, name+"="+img.Env[name])
	}
	if img.Digest != "" {
		name, _, _ := strings.Cut(ref, "@")
		if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
			name = name[:i]
		}
		digests = []string{name + "@" + img.Digest}
	}
	answer(w, http.StatusOK, map[string]any{
		"Id": img.ID, "RepoTags": img.Tags, "RepoDigests": digests, "Created": img.Created.Format(time.RFC3339Nano),
		"Architecture": runtime.GOARCH, "Os": "linux", "Size": img.Size,
		"Config": map[string]any{"Env": env, "Labels": img.Labels},
	})
}

func (e *Engine) images(w http.ResponseWriter, r *http.Request) {
	all, err := e.fake.ListImages(r.Context())
	if err != nil {
		fail(w, http.StatusInternalServerError, err)
		return
	}
	rows := []map[string]any{}
	for _, img := range all {
		rows = append(rows, map[string]any{
			"Id": img.ID, "RepoTags": img.Tags, "RepoDigests": img.Digests, "Labels": img.Labels,
			"Size": img.Size, "Created": img.Created.Unix(),
		})
	}
	answer(w, http.StatusOK, rows)
}

// removeImage removes an image by ID, or else takes one name of it away.
func (e *Engine) removeImage(w http.ResponseWriter, r *http.Request) {
	ref := r.PathValue("ref")
	img, err := e.fake.Resolve(r.Context(), ref)
	if err != nil {
		fail(w, http.StatusNotFound, fmt.Errorf("No such image: %s", ref)) //nolint:staticcheck // the engine's words
		return
	}
	if ref != img.ID {
		e.fake.Prune(ref)
	} else if err := e.fake.RemoveImage(r.Context(), img.ID); err != nil {
		fail(w, http.StatusConflict, fmt.Errorf("conflict: unable to delete %s: %w", ref, err))
		return
	}
	answer(w, http.StatusOK, []map[string]string{{"Untagged": ref}})
}

// tagImage gives an image one more name.
func (e *Engine) tagImage(w http.ResponseWriter, r *http.Request) {
	ref, ok := strings.CutSuffix(r.PathValue("ref"), "/tag")
	img, err := e.fake.Resolve(r.Context(), ref)
	if !ok || err != nil {
		fail(w, http.StatusNotFound, fmt.Errorf("No such image: %s", ref)) //nolint:staticcheck // the engine's words
		return
	}
	e.fake.AddLocal(r.FormValue("repo")+":"+r.FormValue("tag"), containertest.Image{Image: img})
	w.WriteHeader(http.StatusCreated)
}

func (e *Engine) pull(w http.ResponseWriter, r *http.Request) {
	ref := r.FormValue("fromImage")
	switch tag := r.FormValue("tag"); {
	case strings.HasPrefix(tag, "sha256:"):
		ref += "@" + tag
	case tag != "":
		ref += ":" + tag
	}
	out := &stream{w: w}
	_, err := e.fake.Ensure(r.Context(), ref, func(p container.Progress) {
		out.send(map[string]any{
			"id": "layer", "status": "Downloading", "progressDetail": map[string]any{"current": p.Current, "total": p.Total},
		})
	})
	switch {
	case errors.Is(err, container.ErrNotFound):
		err = fmt.Errorf("manifest for %s not found: manifest unknown: manifest unknown", ref)
		out.fail(http.StatusNotFound, err)
	case err != nil:
		out.fail(http.StatusInternalServerError, err)
	}
}

func (e *Engine) build(w http.ResponseWriter, r *http.Request) {
	spec := container.BuildSpec{Tag: r.URL.Query().Get("t"), Network: r.URL.Query().Get("networkmode")}
	err := errors.Join(
		json.Unmarshal([]byte(r.URL.Query().Get("buildargs")), &spec.Args),
		json.Unmarshal([]byte(r.URL.Query().Get("labels")), &spec.Labels),
	)
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return // the client left
	}
	out := &stream{w: w}
	img, err := e.fake.Build(r.Context(), spec,
		func(p container.Progress) { out.send(map[string]any{"stream": p.Text + "\n"}) })
	if err != nil {
		out.send(map[string]any{"error": err.Error(), "errorDetail": map[string]any{"message": err.Error()}})
		return
	}
	out.send(map[string]any{"aux": map[string]any{"ID": img.ID}})
}

func (e *Engine) list(w http.ResponseWriter, r *http.Request) {
	var filters struct {
		Label  map[string]bool
		Status map[string]bool
	}
	if text := r.FormValue("filters"); text != "" {
		if err := json.Unmarshal([]byte(text), &filters); err != nil {
			fail(w, http.StatusBadRequest, err)
			return
		}
	}
	onlyRunning := r.FormValue("all") != "1" || filters.Status["running"]
	e.mu.Lock()
	defer e.mu.Unlock()
	rows := []map[string]any{}
	for _, x := range e.inOrder() {
		s := x.summary(r.Context())
		if !x.matches(slices.Collect(maps.Keys(filters.Label))) || onlyRunning && !s.Running {
			continue
		}
		ports := []map[string]any{}
		for inside, addr := range s.Ports {
			ports = append(ports, map[string]any{
				"IP": addr.Addr().String(), "PrivatePort": inside, "PublicPort": addr.Port(), "Type": "tcp",
			})
		}
		img, err := e.fake.Resolve(r.Context(), s.Image)
		if err != nil {
			img.ID = "" // of a container that was left, or whose image is gone
		}
		rows = append(rows, map[string]any{
			"ImageID": img.ID,
			"Id":      s.ID, "Names": []string{"/" + s.Name}, "Image": s.Image, "Labels": s.Labels, "State": state(s),
			"Created": s.Created.Unix(), "Ports": ports,
		})
	}
	answer(w, http.StatusOK, rows)
}

func (e *Engine) create(w http.ResponseWriter, r *http.Request) {
	var body createBody
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	spec, err := body.spec()
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	if _, err := e.fake.Resolve(r.Context(), spec.Image); err != nil {
		fail(w, http.StatusNotFound, fmt.Errorf("No such image: %s", spec.Image)) //nolint:staticcheck // the engine's words
		return
	}
	name := r.FormValue("name")
	if e.find(name) != nil {
		fail(w, http.StatusConflict, fmt.Errorf("the container name %q is already in use", name))
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seq++
	x := newEntry(container.Summary{ID: fmt.Sprintf("%064x", e.seq), Name: name, Image: spec.Image, Labels: body.Labels})
	x.spec = spec
	e.containers[x.about.ID] = x
	answer(w, http.StatusCreated, map[string]any{"Id": x.about.ID, "Warnings": []string{}})
}

// withEntry finds the container that a path names.
func (e *Engine) withEntry(handle func(http.ResponseWriter, *http.Request, *entry)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		x := e.find(r.PathValue("id"))
		if x == nil {
			err := fmt.Errorf("No such container: %s", r.PathValue("id")) //nolint:staticcheck // the engine's words
			fail(w, http.StatusNotFound, err)
			return
		}
		handle(w, r, x)
	}
}

func (e *Engine) start(w http.ResponseWriter, _ *http.Request, x *entry) {
	err := x.run(e.life, e.fake)
	switch {
	case errors.Is(err, container.ErrPortTaken):
		fail(w, http.StatusInternalServerError, fmt.Errorf("driver failed programming external connectivity: "+
			"Bind for %s failed: port is already allocated", taken(err)))
	case err != nil:
		fail(w, http.StatusInternalServerError, err)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// taken finds the port in the fake's words.
func taken(err error) string {
	if m := regexp.MustCompile(`host port (\d+)`).FindStringSubmatch(err.Error()); m != nil {
		return "127.0.0.1:" + m[1]
	}
	return "127.0.0.1"
}

func (e *Engine) logs(w http.ResponseWriter, r *http.Request, x *entry) {
	e.mu.Lock()
	hidden := x.hidden
	e.mu.Unlock()
	if hidden {
		fail(w, http.StatusNotImplemented, errors.New("configured logging driver does not support reading"))
		return
	}
	if isTrue(r, "timestamps") {
		stampedLogs(w, r, x)
		return
	}
	wanted := func(number byte) bool {
		return number == 1 && isTrue(r, "stdout") || number == 2 && isTrue(r, "stderr")
	}
	w.WriteHeader(http.StatusOK)
	x.out.copyTo(r.Context(), w, wanted, isTrue(r, "follow"))
}

// stampedLogs answers with an entry for each line, as an engine does that is asked for times.
func stampedLogs(w http.ResponseWriter, r *http.Request, x *entry) {
	o := container.LogOptions{Follow: isTrue(r, "follow"), Tail: container.AllLines}
	if n, err := strconv.Atoi(r.FormValue("tail")); err == nil {
		o.Tail = n
	}
	if since, err := strconv.ParseFloat(r.FormValue("since"), 64); err == nil {
		o.Since = time.UnixMicro(int64(since * float64(time.Second/time.Microsecond))) // what a float64 holds
	}
	w.WriteHeader(http.StatusOK)
	flush(w)
	_ = x.logs(r.Context(), o, func(l container.LogLine) error { // of a client that left
		number := byte(1)
		if l.Stderr {
			number = 2
		}
		_, err := w.Write(framed(number, []byte(l.Time.UTC().Format(time.RFC3339Nano)+" "+l.Text+"\n")))
		flush(w)
		return err
	})
}

func (*Engine) wait(w http.ResponseWriter, r *http.Request, x *entry) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	flush(w)
	select {
	case <-x.done:
		encode(w, map[string]any{"StatusCode": x.exit.Code})
	case <-r.Context().Done():
	}
}

func (*Engine) inspect(w http.ResponseWriter, r *http.Request, x *entry) {
	s := x.summary(r.Context())
	ports := map[string]any{}
	for inside, addr := range s.Ports {
		ports[fmt.Sprintf("%d/tcp", inside)] = []map[string]string{
			{"HostIp": addr.Addr().String(), "HostPort": strconv.Itoa(int(addr.Port()))},
		}
	}
	x.mu.Lock()
	exit := x.exit
	x.mu.Unlock()
	answer(w, http.StatusOK, map[string]any{
		"Id": s.ID, "Name": "/" + s.Name, "Created": s.Created.Format(time.RFC3339Nano),
		"State": map[string]any{
			"Status": state(s), "Running": s.Running, "Paused": s.Paused, "ExitCode": exit.Code, "OOMKilled": exit.OOM,
			"FinishedAt": exit.At.UTC().Format(time.RFC3339Nano),
		},
		"Config":          map[string]any{"Image": s.Image, "Labels": s.Labels},
		"NetworkSettings": map[string]any{"Ports": ports},
	})
}

func (*Engine) stop(w http.ResponseWriter, r *http.Request, x *entry) {
	const usual = 10
	seconds, err := strconv.Atoi(r.FormValue("t"))
	if err != nil {
		seconds = usual
	}
	end(w, r, x, time.Duration(seconds)*time.Second, http.StatusNotModified)
}

func (*Engine) kill(w http.ResponseWriter, r *http.Request, x *entry) {
	end(w, r, x, 0, http.StatusConflict)
}

// end stops a container; otherwise is the status for one that does not run.
func end(w http.ResponseWriter, r *http.Request, x *entry, grace time.Duration, otherwise int) {
	if !x.summary(r.Context()).Running {
		fail(w, otherwise, fmt.Errorf("container %s is not running", x.about.ID))
		return
	}
	if err := x.stop(r.Context(), grace); err != nil {
		fail(w, http.StatusInternalServerError, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (e *Engine) remove(w http.ResponseWriter, r *http.Request, x *entry) {
	if x.summary(r.Context()).Running {
		if !isTrue(r, "force") {
			fail(w, http.StatusConflict, fmt.Errorf("you cannot remove a running container %s", x.about.ID))
			return
		}
		if err := x.stop(r.Context(), 0); err != nil {
			fail(w, http.StatusInternalServerError, err)
			return
		}
	}
	x.mu.Lock()
	handle := x.handle
	x.mu.Unlock()
	if handle != nil {
		if err := e.fake.Remove(r.Context(), handle.ID()); err != nil {
			fail(w, http.StatusInternalServerError, err)
			return
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.containers, x.about.ID)
	w.WriteHeader(http.StatusNoContent)
}

func isTrue(r *http.Request, name string) bool {
	value := r.FormValue(name)
	return value == "1" || value == "true"
}

func state(s container.Summary) string {
	switch {
	case s.Paused:
		return "paused"
	case s.Running:
		return "running"
	default:
		return "exited"
	}
}

// stream is an answer of many messages. Its status is settled by the first.
type stream struct {
	w     http.ResponseWriter
	begun bool
}

func (s *stream) send(message map[string]any) {
	s.begun = true
	encode(s.w, message)
	flush(s.w)
}

func (s *stream) fail(status int, err error) {
	if !s.begun {
		fail(s.w, status, err)
		return
	}
	s.send(map[string]any{"error": err.Error(), "errorDetail": map[string]any{"message": err.Error()}})
}

func fail(w http.ResponseWriter, status int, err error) {
	answer(w, status, map[string]string{"message": err.Error()})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if status != http.StatusNotModified {
		encode(w, v)
	}
}

// encode writes v. If that fails the client left, and there is nobody to tell.
func encode(w io.Writer, v any) { _ = json.NewEncoder(w).Encode(v) }
