package docker

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestRemove plays what engines answer of a container that is not simply there or gone.
func TestRemove(t *testing.T) {
	t.Parallel()
	gone := fail(http.StatusNotFound, "No such container: c")
	removed := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }
	created, none := say(`[{"Id":"1234","Names":["/c"],"State":"created"}]`), say(`[]`)
	for name, tt := range map[string]struct {
		answers, lists []http.HandlerFunc // the last one stays
		tries          int
		want           string // in the error; empty is none
	}{
		"gone":                 {[]http.HandlerFunc{gone}, []http.HandlerFunc{none}, 1, ""},
		"by somebody else":     {[]http.HandlerFunc{fail(http.StatusConflict, "removal of container c is already in progress"), gone}, []http.HandlerFunc{none}, 2, ""},
		"busy":                 {[]http.HandlerFunc{fail(http.StatusInternalServerError, "unlinkat /x: device or resource busy"), removed}, nil, 2, ""},
		"being created":        {[]http.HandlerFunc{gone, gone, removed}, []http.HandlerFunc{created}, 3, ""},
		"creation fails":       {[]http.HandlerFunc{gone}, []http.HandlerFunc{say(`[{"Id":"c","Names":[],"State":"dead"}]`), none}, 2, ""},
		"another's name":       {[]http.HandlerFunc{gone}, []http.HandlerFunc{say(`[{"Id":"1234","Names":["/cc","/d/c"]}]`)}, 1, ""},
		"never gone":           {[]http.HandlerFunc{gone}, []http.HandlerFunc{created}, 0, "it is still there after 300ms, and the container engine says: No such container: c"},
		"never let go of":      {[]http.HandlerFunc{fail(http.StatusConflict, "removal of container c is already in progress")}, nil, 0, "is still there after 300ms, and the container engine says: removal of container c is already"},
		"refused":              {[]http.HandlerFunc{fail(http.StatusForbidden, "not allowed")}, nil, 1, "remove container c: not allowed"},
		"gone, and lists fail": {[]http.HandlerFunc{gone}, []http.HandlerFunc{fail(http.StatusInternalServerError, "no list")}, 1, "remove container c: no list"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &api{answers: map[string]http.HandlerFunc{
				"DELETE /containers/c": inTurn(tt.answers), "GET /containers/json": inTurn(tt.lists),
			}}
			err := a.serve(t, Options{}).remove(t.Context(), "c", 300*time.Millisecond)
			if (err != nil) != (tt.want != "") || err != nil && (!strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "remove container c: ")) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if tries := a.count("DELETE /containers/c"); tt.tries != 0 && tries != tt.tries || tries < 1 {
				t.Errorf("%d tries, want %d", tries, tt.tries)
			}
		})
	}
}

// Podman stops gently what it removes by force, for as long as the container may take: it is killed before.
func TestRemoveKillsOnPodman(t *testing.T) {
	t.Parallel()
	done := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }
	for name, want := range map[string]int{"Engine": 0, "Podman Engine": 1} {
		a := &api{answers: map[string]http.HandlerFunc{
			"GET /version": say(`{"Version":"4.3.1","ApiVersion":"1.41","Components":[{"Name":"` + name + `","Version":"4.3.1"}]}`),
			"GET /info":    say(`{}`), "POST /containers/c/kill": done, "DELETE /containers/c": done,
		}}
		if err := a.serve(t, Options{}).Remove(t.Context(), "c"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if kills := a.count("POST /containers/c/kill"); kills != want {
			t.Errorf("%s: killed %d times, want %d", name, kills, want)
		}
	}
}

// A volume that the engine leaves when it removes a container is removed after it; that of another container stays.
func TestRemoveLeftVolume(t *testing.T) {
	t.Parallel()
	const inspected = `{"Id": "1", "HostConfig": {"Mounts": [{"Type": "volume", "Target": "/in"}, {"Type": "volume", "Source": "other", "Target": "/o"}, {"Type": "bind", "Source": "/x", "Target": "/x"}]},
		"Mounts": [{"Type": "volume", "Name": "mine", "Destination": "/in"}, {"Type": "volume", "Name": "other", "Destination": "/o"}, {"Type": "bind", "Destination": "/x"}]}`
	removed := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }
	inUse := fail(http.StatusConflict, "remove mine: volume is in use - [1]")
	for name, tt := range map[string]struct {
		answers []http.HandlerFunc
		tries   int
		want    string
	}{
		"the engine did":  {[]http.HandlerFunc{fail(http.StatusNotFound, "no such volume")}, 1, ""},
		"it did not":      {[]http.HandlerFunc{inUse, inUse, removed}, 3, ""},
		"never let go of": {[]http.HandlerFunc{inUse}, 0, "remove volume mine of container c: it is still there after 300ms, and the container engine says: remove mine: volume is in use"},
		"refused":         {[]http.HandlerFunc{fail(http.StatusForbidden, "not allowed")}, 1, "remove volume mine of container c: not allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gone := fail(http.StatusNotFound, "No such container: c")
			a := &api{answers: map[string]http.HandlerFunc{
				"GET /containers/c/json": say(inspected), "DELETE /containers/c": inTurn([]http.HandlerFunc{removed, gone}),
				"GET /containers/json": say(`[]`), "DELETE /volumes/mine": inTurn(tt.answers),
			}}
			err := a.serve(t, Options{}).remove(t.Context(), "c", 300*time.Millisecond)
			if (err != nil) != (tt.want != "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if tries := a.count("DELETE /volumes/mine"); tt.tries != 0 && tries != tt.tries || a.count("DELETE /volumes/other") != 0 {
				t.Errorf("%d tries, want %d", tries, tt.tries)
			}
		})
	}
}

// inTurn gives each answer once, and the last one from then on.
func inTurn(answers []http.HandlerFunc) http.HandlerFunc {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		answer := answers[0]
		if len(answers) > 1 {
			answers = answers[1:]
		}
		mu.Unlock()
		answer(w, r)
	}
}
