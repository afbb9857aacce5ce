package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/dalirun/dalirun/internal/mounttest"
)

const onSilentDisk = "DALIRUN_TEST_SILENT_DISK"

// TestOnSilentDisk runs TestInSilentDisk in a process of its own, whose mounts nobody else sees and that go with it.
func TestOnSilentDisk(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestInSilentDisk$", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), onSilentDisk+"=1")
	out, err := mounttest.Run(t, cmd)
	if err != nil || !strings.Contains(out, "--- PASS: TestInSilentDisk") {
		t.Errorf("%v: %s", err, out)
	}
}

// A command whose folder is on a disk that never answers ends, and names the folder. Doctor tells of all else too.
func TestInSilentDisk(t *testing.T) {
	t.Parallel()
	if os.Getenv(onSilentDisk) == "" {
		t.Skip("TestOnSilentDisk runs it")
	}
	disk := t.TempDir()
	nobody, err := mounttest.Silence(disk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(nobody.Close(), syscall.Unmount(disk, syscall.MNT_DETACH)); err != nil {
			t.Error(err)
		}
	})
	const hint, others = " +[^\n]*findmnt", "(?s)container engine .*\nfail +%s disk +%s.*\nok +ports .*not ready: "
	for line, want := range map[string]struct{ stdout, stderr string }{
		"doctor --cache-dir": {fmt.Sprintf(others, "cache", "the disk of [^\n]*/folder gave no answer within 2s\n"+hint), "^$"},
		"doctor --workspace": {fmt.Sprintf(others, "workspace", "the disk of [^\n]*/folder gave no answer within 2s\n"+hint), "^$"},
		"gc --cache-dir":     {"^$", "the disk of [^ ]*/folder gave no answer within 10s\n  hint: .*findmnt"},
		"stop --workspace":   {"^$", "the disk of [^ ]*/folder gave no answer within 10s\n  hint: .*findmnt"},
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			app := appIn(map[string]string{"HOME": t.TempDir()}, &stdout, &stderr)
			code := app.Run(t.Context(), append(strings.Fields(line), filepath.Join(disk, "folder")))
			if code != ExitEnvironment || !matches(want.stdout, stdout.String()) || !matches(want.stderr, stderr.String()) {
				t.Errorf("it ended with %d: %s%s", code, &stdout, &stderr)
			}
		})
	}
}
