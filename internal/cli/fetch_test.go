package cli

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
			from, err := fetcher{}.Fetch(t.Context(), server.URL+path, file, most, func(int64, int64) {})
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
