package flagvalue_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/flagvalue"
	"github.com/dalirun/dalirun/internal/target"
)

type colour string

// values are one of each kind.
func values() map[string]flagvalue.Value {
	return map[string]flagvalue.Value{
		"choice":     flagvalue.Choice(new(colour), "red", "green"),
		"int":        flagvalue.Int(new(int), 1, 256),
		"bytes":      flagvalue.Bytes(new(int64), 64<<20, 4<<40),
		"duration":   flagvalue.Duration(new(time.Duration), time.Second, 24*time.Hour),
		"delay":      flagvalue.Delay(new(time.Duration)),
		"share":      flagvalue.Share(new(float64)),
		"percentage": flagvalue.Percentage(new(float64)),
		"size":       flagvalue.PictureSize(new(target.PictureSize)),
		"jobs":       flagvalue.Concurrency(new([]int)),
		"rates":      flagvalue.Rates(new([]float64)),
		"gpus":       flagvalue.GPUs(new(container.GPUs)),
		"address":    flagvalue.Address(new(netip.Addr)),
		"lines":      flagvalue.LineCount(new(int)),
		"since":      flagvalue.Time(new(time.Time)),
		"serving":    flagvalue.Serving(new(target.Serving)),
	}
}

func TestTypes(t *testing.T) {
	t.Parallel()
	got := map[string]string{}
	for kind, value := range values() {
		got[kind] = value.Type()
	}
	want := map[string]string{
		"choice": "red|green", "int": "1..256", "bytes": "64m..4096g", "duration": "1s..24h", "delay": "0s..1s",
		"share": "0.01..1", "percentage": "0%..1000%", "size": "WxH", "jobs": "N,...", "rates": "N,...", "gpus": "string",
		"address": "ADDRESS", "lines": "all|0..", "since": "time|duration", "serving": "KEY=VALUE,...",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the values in the help (-want +got):\n%s", diff)
	}
}

// What is written back is what the flag takes again.
func TestSet(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ kind, written, want string }{
		{"choice", "green", "green"},
		{"int", "1", "1"},
		{"int", "256", "256"},
		{"bytes", "8g", "8g"},
		{"bytes", "1536MiB", "1536m"},
		{"bytes", "100000001", "100000001b"},
		{"bytes", "102401k", "102401k"},
		{"duration", "90s", "1m30s"},
		{"duration", "5m", "5m"},
		{"duration", "24h", "24h"},
		{"delay", "0s", "0s"},
		{"delay", "500us", "500µs"},
		{"share", "0.65", "0.65"},
		{"share", "1", "1"},
		{"percentage", "5%", "5%"},
		{"percentage", "0.5%", "0.5%"},
		{"percentage", "1000%", "1000%"},
		{"size", "1920x1080", "1920x1080"},
		{"jobs", "1, 16,256", "1,16,256"},
		{"rates", "0.5,20", "0.5,20"},
		{"gpus", "all", "all"},
		{"gpus", "device=0,1", "device=0,1"},
		{"address", "0.0.0.0", "0.0.0.0"},
		{"address", "::1", "::1"},
		{"lines", "0", "0"},
		{"lines", "20", "20"},
		{"lines", "all", "all"},
		{"since", "10m", "10m"},
		{"since", "2026-08-23T10:15:00Z", "2026-08-23T10:15:00Z"},
		{"serving", "queue-delay=500us,dali-instances=6", "dali-instances=6,queue-delay=500µs"},
		{"serving", "cuda-pool=2g, picture-size=1920x1080", "picture-size=1920x1080,cuda-pool=2g"},
	} {
		value := values()[tt.kind]
		if err := value.Set(tt.written); err != nil {
			t.Errorf("%s %s: %v", tt.kind, tt.written, err)
			continue
		}
		if got := value.String(); got != tt.want {
			t.Errorf("%s %s is written %s, want %s", tt.kind, tt.written, got, tt.want)
		}
		if err := value.Set(value.String()); err != nil {
			t.Errorf("%s does not take what it wrote: %v", tt.kind, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ kind, written, want string }{
		{"choice", "gren", `"gren" is none of red, green; did you mean "green"?`},
		{"choice", "", `"" is none of red, green`},
		{"int", "many", `"many" is no whole number (1 to 256)`},
		{"int", "1.5", `"1.5" is no whole number (1 to 256)`},
		{"int", "0", `0 is out of range; the nearest is 1 (1 to 256)`},
		{"int", "99999999999999999999", `99999999999999999999 is out of range; the nearest is 256 (1 to 256)`},
		{"int", "-99999999999999999999", `-99999999999999999999 is out of range; the nearest is 1 (1 to 256)`},
		{"bytes", "much", `"much" is no size, as in 8g (64m to 4096g)`},
		{"bytes", "1k", `1k is out of range; the nearest is 64m (64m to 4096g)`},
		{"duration", "5", `"5" is no duration, as in 90s or 5m (1s to 24h)`},
		{"duration", "25h", `25h is out of range; the nearest is 24h (1s to 24h)`},
		{"delay", "-1ms", `-1ms is out of range; the nearest is 0s (0s to 1s)`},
		{"delay", "1500ns", `"1500ns" is no whole number of microseconds, as in 500us or 2ms (0s to 1s)`},
		{"delay", "soon", `"soon" is no whole number of microseconds, as in 500us or 2ms (0s to 1s)`},
		{"share", "0", `0 is out of range; the nearest is 0.01 (0.01 to 1)`},
		{"share", "NaN", `"NaN" is no number (0.01 to 1)`},
		{"share", "1e400", `1e400 is out of range; the nearest is 1 (0.01 to 1)`},
		{"percentage", "5", `"5" is no share in percent, as in 5% (0% to 1000%)`},
		{"percentage", "NaN%", `"NaN%" is no share in percent, as in 5% (0% to 1000%)`},
		{"percentage", "1001%", `1001% is out of range; the nearest is 1000% (0% to 1000%)`},
		{"percentage", "-1%", `-1% is out of range; the nearest is 0% (0% to 1000%)`},
		{"size", "600", `"600" is no size in pixels, as in 600x400 (1 to 65535 each)`},
		{"size", "0x400", `"0x400" is no size in pixels, as in 600x400 (1 to 65535 each)`},
		{"size", "600x70000", `"600x70000" is no size in pixels, as in 600x400 (1 to 65535 each)`},
		{"jobs", "1,1", `1 stands twice`},
		{"jobs", "1,,2", `"" is no whole number (1 to 65536)`},
		{"jobs", "0", `0 is out of range; the nearest is 1 (1 to 65536)`},
		{"rates", "0", `"0" is no number above 0`},
		{"rates", "Inf", `"Inf" is no number above 0`},
		{"rates", "NaN", `"NaN" is no number above 0`},
		{"address", "localhost", `"localhost" is no IP address, as 0.0.0.0 is one`},
		{"address", "fe80::1%eth0", `"fe80::1%eth0" has a zone, which container engines do not take`},
		{"address", "224.0.0.1", `"224.0.0.1" is no address of a host`},
		{"address", "255.255.255.255", `"255.255.255.255" is no address of a host`},
		{"lines", "-1", `"-1" is no number of lines from 0 to 2147483647, nor "all"`},
		{"lines", "2147483648", `"2147483648" is no number of lines from 0 to 2147483647, nor "all"`},
		{"since", "-5m", `"-5m" is neither a time, as in 2026-08-23T10:15:00Z, nor how long ago, as in 90s or 10m`},
		{"serving", "dali-threads", `"dali-threads" is not of the form KEY=VALUE, as in dali-threads=2`},
		{"serving", "dali-thread=2", `there is no key "dali-thread"; did you mean "dali-threads"?`},
		{"serving", "dali-threads=0", `dali-threads: 0 is out of range; the nearest is 1 (1 to 256)`},
	} {
		value := values()[tt.kind]
		before := value.String()
		err := value.Set(tt.written)
		if err == nil {
			t.Errorf("%s takes %q", tt.kind, tt.written)
			continue
		}
		if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
			t.Errorf("%s %q (-want +got):\n%s", tt.kind, tt.written, diff)
		}
		if after := value.String(); after != before {
			t.Errorf("%s is %s after %q was refused, and was %s", tt.kind, after, tt.written, before)
		}
	}
}

// Keys that a user does not name stay as they are.
func TestServingSetsWhatIsNamed(t *testing.T) {
	t.Parallel()
	s := target.Serving{DALIThreads: 3}
	if err := flagvalue.Serving(&s).Set("dali-instances=2"); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"dali-threads": "3", "dali-instances": "2"}
	if diff := cmp.Diff(want, flagvalue.ServingMap(s)); diff != "" {
		t.Errorf("the keys (-want +got):\n%s", diff)
	}
	if got := flagvalue.ServingMap(target.Serving{}); len(got) > 0 {
		t.Errorf("nothing was named, and these are set: %v", got)
	}
}
