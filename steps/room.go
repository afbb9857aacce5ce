package steps

import (
	"bytes"
	"context"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dalirun/dalirun/internal/container"
)

// room is memory in bytes. used is zero where it is not known.
type room struct {
	of         string // for people: whose it is
	used, free int64
}

// roomScript prints the memory that the container may use, how it uses it, and the host's, by version 2 of control
// groups or 1 (https://docs.kernel.org/admin-guide/cgroup-v2.html, cgroup-v1/memory.html).
const roomScript = `cd /sys/fs/cgroup
cat memory.max memory/memory.limit_in_bytes 2>/dev/null
echo
cat memory.stat memory/memory.stat 2>/dev/null
cat /proc/meminfo`

// hostRoom asks a container how much memory its programs have, and how much more they may have. What the kernel can
// take back, such as cached files, is not counted.
func hostRoom(ctx context.Context, c container.Container) room {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var out bytes.Buffer
	code, err := c.Exec(ctx, []string{"sh", "-c", roomScript}, container.Streams{Stdout: &out})
	if code != 0 || err != nil {
		return room{}
	}
	return parseRoom(out.String())
}

func parseRoom(text string) room {
	limits, stats, _ := strings.Cut(text, "\n\n")
	limit := int64(math.MaxInt64)
	for word := range strings.FieldsSeq(limits) {
		if n, err := strconv.ParseInt(word, 10, 64); err == nil { // else it is "max"
			limit = min(limit, n)
		}
	}
	r := room{of: "the container"}
	available := int64(math.MaxInt64)
	for line := range strings.Lines(stats) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		n, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			continue
		}
		switch fields[0] {
		case "anon", "total_rss": // of version 2 and 1
			r.used = n
		case "MemAvailable:":
			available = n << 10 // it is in KiB
		}
	}
	r.free = min(limit-r.used, available)
	return r
}
