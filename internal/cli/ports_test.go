package cli

import (
	"testing"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/internal/store"
)

// Whoever has several ports is named once.
func TestPortsTaken(t *testing.T) {
	t.Parallel()
	server := &container.Summary{Name: "s", Labels: container.Labels{container.LabelWorkspace: "/w", container.LabelRole: string(container.RoleServer)}}
	batch := &container.Summary{Name: "b", Labels: container.Labels{container.LabelWorkspace: "/w"}}
	at := func(port uint16, holder *container.Summary, by string) takenPort {
		return takenPort{Port: container.Port{Host: port}, holder: holder, by: func() string { return by }}
	}
	for want, taken := range map[string][]takenPort{
		"port 8000 is in use by nginx (pid 1): a free one will be taken": {at(8000, nil, " by nginx (pid 1)")},
		"ports 8000, 8001 and 8002 are in use by s, the server of /w: free ones will be taken": {
			at(8000, server, ""), at(8001, server, ""), at(8002, server, ""),
		},
		"ports 8000 and 8002 are in use; port 8001 is in use by b, of a run in /w: free ones will be taken": {
			at(8000, nil, ""), at(8001, batch, ""), at(8002, nil, ""),
		},
	} {
		if got := portsTaken(taken); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

func TestCollected(t *testing.T) {
	t.Parallel()
	two := []serving.Leftover{{Name: "a"}, {Name: "b"}}
	entry := []store.Evicted{{Bytes: 2048}}
	for want, c := range map[string]collected{
		"nothing is to be removed":                                          {},
		"removed 2 containers: 0 B freed":                                   {Containers: two},
		"removed 1 result: 2 KiB freed":                                     {Entries: entry, Freed: 2048},
		"removed leftovers of runs: 5 B freed":                              {Freed: 5},
		"removed 2 containers, 1 result and leftovers of runs: 3 KiB freed": {Containers: two, Entries: entry, Freed: 3072},
		"would remove 1 container and 1 result: 2 KiB would be freed":       {Containers: two[:1], Entries: entry, Freed: 2048, DryRun: true},
	} {
		if got := c.String(); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

func TestSummaryOfDoctor(t *testing.T) {
	t.Parallel()
	ok, warned, bad := finding{Status: statusOK}, finding{Status: statusWarn}, finding{Status: statusFail}
	for want, findings := range map[string][]finding{
		"ready: 1 ok":                          {ok},
		"ready: 1 warning, 2 ok":               {ok, warned, ok},
		"ready: 2 warnings, 0 ok":              {warned, warned},
		"not ready: 2 failed, 1 warning, 1 ok": {bad, ok, warned, bad},
	} {
		if got := summary(findings); got != want || (verdict(findings) == nil) != (got[:5] == "ready") {
			t.Errorf("%s, %v\nwant %s", got, verdict(findings), want)
		}
	}
}
