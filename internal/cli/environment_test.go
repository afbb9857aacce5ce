package cli

import (
	"os"
	"path/filepath"
	"testing"
)

// The certificates of an image build are those of the first variable that names a file that can be read.
func TestCABundle(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte("a certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		set  map[string]string
		want string
	}{
		"none":                 {nil, ""},
		"one":                  {map[string]string{"REQUESTS_CA_BUNDLE": file}, "a certificate"},
		"one that is not here": {map[string]string{"SSL_CERT_FILE": file + "x"}, ""},
		"the next one":         {map[string]string{"SSL_CERT_FILE": file + "x", "CURL_CA_BUNDLE": file}, "a certificate"},
	} {
		a := &App{LookupEnv: func(name string) (string, bool) { value, set := c.set[name]; return value, set }}
		if got := string(a.caBundle()); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
