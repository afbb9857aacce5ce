package steps

import (
	"math"
	"testing"
)

// What is free is the least that the container's limit and the host leave. The texts are those of Debian 12 with control groups of version 1, as far as they matter, and of the kernel's documents for version 2.
func TestParseRoom(t *testing.T) {
	t.Parallel()
	const host = "MemTotal:       24656712 kB\nMemFree:          811700 kB\nMemAvailable:   2097152 kB\n"
	for name, c := range map[string]struct {
		text       string
		used, free int64
	}{
		"version 2, limited":     {"1073741824\n\nanon 104857600\nfile 900000000\n" + host, 100 << 20, 924 << 20},
		"version 2, unlimited":   {"max\n\nanon 104857600\nfile 900000000\n" + host, 100 << 20, 2 << 30},
		"version 1, limited":     {"536870912\n\ncache 900000000\nrss 1\ntotal_cache 900000000\ntotal_rss 104857600\n" + host, 100 << 20, 412 << 20},
		"version 1, unlimited":   {"9223372036854771712\n\ntotal_rss 104857600\n" + host, 100 << 20, 2 << 30},
		"the host has less":      {"8589934592\n\nanon 104857600\n" + host, 100 << 20, 2 << 30},
		"no control groups":      {"\n\n" + host, 0, 2 << 30},
		"nothing that is known":  {"", 0, math.MaxInt64},
		"a line that is no pair": {"max\n\nanon\nanon many\nanon 1\n" + host, 1, 2 << 30},
	} {
		if r := parseRoom(c.text); r.used != c.used || r.free != c.free {
			t.Errorf("%s: %d used and %d free, want %d and %d", name, r.used, r.free, c.used, c.free)
		}
	}
}
