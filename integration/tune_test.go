//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestTune tunes for a moment, and has plan read what came out. Then it is interrupted while a candidate stands beside
// the server of the start: what was proven is printed, and neither is left.
func TestTune(t *testing.T) {
	t.Parallel()
	c := cpuLane(t).withOwnCache(t, nil) // other settings are no part of what others look at
	o := opts{Dir: t.TempDir(), Timeout: 5 * time.Minute}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(run(t, c.engine, o, "logs", "--tail", "40").Stdout) // of the server that stood last
		}
	})
	file := filepath.Join(o.Dir, "dalirun.yaml")
	const asked = "# mine\nserving:\n  queue-delay: 100us\n"
	if err := os.WriteFile(file, []byte(asked), 0o600); err != nil {
		t.Fatal(err)
	}
	r := mustRun(t, 0, c.engine, o, c.args("tune", "--budget", "20s")...)
	t.Log(r.Stdout)
	if !strings.HasPrefix(r.Stdout, "serving:\n") || !strings.Contains(r.Stdout, "  queue-delay: 100µs\n") {
		t.Errorf("the block lacks what was asked for:\n%s", r.Stdout)
	}
	c.checkNoContainer(t, o.Dir)
	if got, err := os.ReadFile(file); string(got) != asked || err != nil {
		t.Errorf("without --write, the file is %q (%v)", got, err)
	}
	if err := os.WriteFile(file, []byte(r.Stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	mustRun(t, 0, c.engine, o, c.args("plan")...)

	p := start(t, c.engine, o, c.args("tune", "--objective", "latency", "--budget", "1h")...)
	p.until(t, "a candidate stands beside the start", func() bool {
		return len(c.engine.containers(t, workspace(o.Dir))) == 2
	})
	p.signal(t, syscall.SIGINT)
	r = p.wait(t)
	if n := strings.Count(r.Stderr, "INFO verify: started"); n != 1 {
		t.Errorf("the steps of %d runs are shown, and the candidate's are its own\n%s", n, r.Stderr)
	}
	if r.Code != 130 || !strings.Contains(r.Stdout, "# interrupted: nothing better than the start was found\n") {
		t.Errorf("interrupted: %d, %s\n%s", r.Code, r.Stdout, r.Stderr)
	}
	c.checkNoContainer(t, o.Dir)
}
