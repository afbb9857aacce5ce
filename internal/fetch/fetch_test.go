package fetch_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/fetch"
)

// TestFetch checks that a download never has more bytes than are expected, says where it came from, and is whole or not there.
func TestFetch(t *testing.T) {
	t.Parallel()
	const most = 1000
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/good", http.StatusFound)
		case "/good":
			_, _ = w.Write(make([]byte, most))
		case "/announced":
			w.Header().Set("Content-Length", "5000000000")
		case "/endless": // without a length, and without an end
			for {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		case "/cut":
			w.Header().Set("Content-Length", "900")
			_, _ = w.Write(make([]byte, 10))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	for path, tt := range map[string]struct{ from, want string }{
		"/good":      {"/good", ""},
		"/moved":     {"/good", ""},
		"/announced": {"/announced", "GET " + server.URL + "/announced: it announces 5000000000 bytes, and expected are 1000"},
		"/endless":   {"/endless", "GET " + server.URL + "/endless: it sends more than the 1000 bytes that are expected"},
		"/cut":       {"/cut", "GET " + server.URL + "/cut: after 10 B: unexpected EOF"},
		"/nothing":   {"/nothing", "GET " + server.URL + "/nothing: 404 Not Found"},
	} {
		t.Run(strings.TrimPrefix(path, "/"), func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "file")
			from, err := fetch.Fetcher{}.Fetch(t.Context(), server.URL+path, file, most, func(int64, int64) {})
			if from != server.URL+tt.from {
				t.Errorf("it came from %q", from)
			}
			info, statErr := os.Stat(file)
			if tt.want == "" {
				if err != nil || statErr != nil || info.Size() != most {
					t.Errorf("got %v; the file: %v, %v", err, info, statErr)
				}
				return
			}
			if err == nil || err.Error() != tt.want || !os.IsNotExist(statErr) {
				t.Errorf("got %v, want %s; the file: %v", err, tt.want, statErr)
			}
		})
	}
}

// TestReachable asks for the head alone, and not for longer than the limit.
func TestReachable(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodHead:
			http.Error(w, "only HEAD", http.StatusMethodNotAllowed)
		case r.URL.Path == "/nothing":
			http.NotFound(w, r)
		case r.URL.Path == "/silent":
			<-ended
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(ended) })
	for _, c := range []struct {
		url   string
		limit time.Duration
		want  string // in the error; empty for none
	}{
		{server.URL + "/good", time.Minute, ""},
		{server.URL + "/nothing", time.Minute, "HEAD " + server.URL + "/nothing: 404 Not Found"},
		{server.URL + "/silent", 10 * time.Millisecond, "no answer within 10ms"},
		{"\x7f", time.Minute, "invalid control character in URL"},
	} {
		err := fetch.Fetcher{}.Reachable(t.Context(), c.url, c.limit)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v", c.url, err)
		}
	}
}
