package release_test

import (
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/release"
)

func TestParseVersion(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in   string
		want release.Version
		text string
	}{
		{"10.9.0.34", release.Version{Major: 10, Minor: 9, Build: 34}, "10.9.0.34"},
		{"8.6.1.6+cuda12.0.1.011", release.Version{Major: 8, Minor: 6, Patch: 1, Build: 6}, "8.6.1.6"},
		{"10.9.0.34-1+cuda12.8", release.Version{Major: 10, Minor: 9, Build: 34}, "10.9.0.34"},
		{"580.159.04", release.Version{Major: 580, Minor: 159, Patch: 4}, "580.159.4"},
		{"13.0.0.044", release.Version{Major: 13, Build: 44}, "13.0.0.44"},
		{" 9.0\n", release.Version{Major: 9}, "9.0"},
		{"11", release.Version{Major: 11}, "11.0"},
		{"8.6.1", release.Version{Major: 8, Minor: 6, Patch: 1}, "8.6.1"},
	}
	for _, tt := range tests {
		got, err := release.ParseVersion(tt.in)
		if err != nil || got != tt.want {
			t.Errorf("ParseVersion(%q) = %+v, %v; want %+v", tt.in, got, err, tt.want)
		}
		if got.String() != tt.text {
			t.Errorf("%q is written %q, want %q", tt.in, got, tt.text)
		}
	}
	for _, in := range []string{"", " ", ".", "10.", ".9", "10..9", "a.b", "1.2.3.4.5", "+1", "-1", "1.+2", "[N/A]", "v10", "99999999999", "1,2", "0x1"} {
		if got, err := release.ParseVersion(in); err == nil {
			t.Errorf("ParseVersion(%q) = %v, want an error", in, got)
		} else if !strings.Contains(err.Error(), "version") {
			t.Errorf("ParseVersion(%q): %v does not say what it is about", in, err)
		}
	}
}

func TestVersionCompare(t *testing.T) {
	t.Parallel()
	ordered := []string{"8.0.1.6", "8.2", "8.2.5.1", "8.4", "8.6.1", "8.10", "9.3", "10.0", "10.0.1.6", "10.9.0.34", "10.9.1", "10.16", "11.0"}
	for i, a := range ordered {
		for j, b := range ordered {
			va, vb := version(t, a), version(t, b)
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := va.Compare(vb); got != want {
				t.Errorf("%s compared with %s is %d, want %d", a, b, got, want)
			}
		}
	}
}

func version(t *testing.T, s string) release.Version {
	t.Helper()
	v, err := release.ParseVersion(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func FuzzParseVersion(f *testing.F) {
	for _, s := range []string{"10.9.0.34", "8.6.1.6+cuda12.0", "13.0.0.044", "", "1.2.3.4.5", "-1", "٣.٤"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := release.ParseVersion(s)
		if err != nil {
			if !v.IsZero() {
				t.Errorf("%q: an error and a version, %v", s, v)
			}
			return
		}
		if v.Major < 0 || v.Minor < 0 || v.Patch < 0 || v.Build < 0 {
			t.Errorf("%q has a negative part: %v", s, v)
		}
		again, err := release.ParseVersion(v.String())
		if err != nil || again != v {
			t.Errorf("%q is written %q, which is read as %v, %v", s, v, again, err)
		}
	})
}
