package docker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"testing"
)

// TestKilledForMemory plays an engine to which the kernel's notice comes before the exit, after it, or not.
func TestKilledForMemory(t *testing.T) {
	t.Parallel()
	const ended = `{"Id":"c","Name":"/c","Created":"2026-01-02T03:04:05.5Z","HostConfig":{"Memory":%d},` +
		`"State":{"OOMKilled":%t,"ExitCode":137,"StartedAt":"2026-01-02T03:04:06Z","FinishedAt":"2026-01-02T03:04:07.25Z"}}`
	notice := say(`{"Type":"container","Action":"oom","Actor":{"ID":"c"},"timeNano":1767323047260000000}`)
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for name, tt := range map[string]struct {
		memory   int
		flag     bool
		code     int
		events   http.HandlerFunc
		want     bool
		requests int
	}{
		"before the exit":   {1, true, 137, nil, true, 0},
		"after the exit":    {1, false, 137, notice, true, 1},
		"not":               {1, false, 137, say(""), false, 1},
		"events refused":    {1, false, 137, fail(http.StatusForbidden, "a proxy"), false, 1},
		"events hang":       {1, false, 137, hang, false, 1},
		"without a limit":   {0, false, 137, notice, false, 0},
		"another exit code": {1, false, 1, notice, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			queries := make(chan url.Values, 1)
			a := &api{answers: map[string]http.HandlerFunc{
				"GET /containers/c/json":  say(fmt.Sprintf(ended, tt.memory, tt.flag)),
				"POST /containers/c/wait": say(fmt.Sprintf(`{"StatusCode":%d}`, tt.code)),
				"GET /events": func(w http.ResponseWriter, r *http.Request) {
					queries <- r.URL.Query()
					tt.events(w, r)
				},
			}}
			c, err := a.serve(t, Options{}).Open(t.Context(), "c")
			if err != nil {
				t.Fatal(err)
			}
			exit, err := c.Wait(t.Context())
			if err != nil || exit.OOM != tt.want || exit.Code != tt.code || a.count("GET /events") != tt.requests {
				t.Errorf("got %+v, %v after %d looks at the events", exit, err, a.count("GET /events"))
			}
			if tt.requests == 0 {
				return
			}
			query := <-queries
			const since, until = "1767323045.500000000", "1767323048.250000000" // of the engine's clock: created, a second after it finished
			if query.Get("since") != since || query.Get("until") != until || query.Get("filters") != `{"container":{"c":true},"event":{"oom":true},"type":{"container":true}}` {
				t.Errorf("asked for %v", query)
			}
		})
	}
}

// TestKilledForMemoryAndCancelled holds that a caller who gives up while the events hang is told so.
func TestKilledForMemoryAndCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	a := &api{answers: map[string]http.HandlerFunc{
		"GET /containers/c/json": say(`{"Id":"c","Name":"/c","Created":"2026-01-02T03:04:05.5Z","HostConfig":{"Memory":1},` +
			`"State":{"ExitCode":137,"FinishedAt":"2026-01-02T03:04:07.25Z"}}`),
		"POST /containers/c/wait": say(`{"StatusCode":137}`),
		"GET /events": func(_ http.ResponseWriter, r *http.Request) {
			cancel(enough)
			<-r.Context().Done()
		},
	}}
	c, err := a.serve(t, Options{}).Open(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	if exit, err := c.Wait(ctx); !errors.Is(err, enough) {
		t.Errorf("got %+v, %v", exit, err)
	}
}
