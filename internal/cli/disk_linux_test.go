package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/dalirun/dalirun/internal/cli/dockertest"
	"github.com/dalirun/dalirun/internal/mounttest"
	"github.com/dalirun/dalirun/internal/needtest"
	"github.com/dalirun/dalirun/internal/store"
)

const onSmallDisk = "DALIRUN_TEST_SMALL_DISK"

// TestOnSmallDisk runs TestInSmallDisk in a process of its own, whose mounts nobody else sees and that go with it.
func TestOnSmallDisk(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestInSmallDisk$", "-test.v")
	cmd.Env = append(os.Environ(), onSmallDisk+"=1")
	out, err := mounttest.Run(t, cmd)
	if err != nil || !strings.Contains(out, "--- PASS: TestInSmallDisk/") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestInSmallDisk is what is done where folders are on disks that are full, have no room for one more file, or are read-only. Whatever
// flag a run meets that with, what is said is about the disk.
func TestInSmallDisk(t *testing.T) {
	t.Parallel()
	if os.Getenv(onSmallDisk) == "" {
		t.Skip("TestOnSmallDisk runs it")
	}
	own := filepath.Join(t.TempDir(), "own.pth")
	if err := os.WriteFile(own, append([]byte(checkpoint), make([]byte, 4<<20)...), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		disk    string // what mount is told
		on      string // the flag of the folder that is on the disk
		fill    bool
		flags   []string
		stderr  string
		finding string
	}{
		"full while weights of a user's are copied": {
			"size=2m", "--cache-dir", false,
			[]string{"--weights", own},
			"(copy the weights: write|server-image failed|exporter-image failed) .*: no space left on device\n  hint: free space on the disk of ", // whichever meets it first
			"fail  cache disk .* MiB are free, and the results that are not there yet take",
		},
		"full before a result is begun": {
			"size=2m", "--cache-dir", true,
			[]string{"--weights", "random:0"},
			"no space left on device\n  hint: free space on the disk of the cache, /.*/folder .*, or name another with --cache-dir",
			"fail  cache disk .*: 0 B are free, and the results.*\n +free space there: `DOCKER_HOST=unix:.* dalirun gc --dry-run --cache-dir=/.*/folder` says what of the cache could go; or name",
		},
		"no more files": {
			"nr_inodes=40", "--cache-dir", true,
			[]string{"--weights", own},
			"no space left on device\n  hint: free space on the disk of .*`df -i`", "fail  cache disk .*: 0 B are free",
		},
		"a workspace on a full disk": {
			"size=1m", "--workspace", true,
			[]string{"--weights", "random:0"},
			"no space left on device\n  hint: free space on the disk of ", "fail  workspace disk .*: 0 B are free, and the logs of runs may take 16 MiB\n +free space there; or name a folder on another disk with --workspace",
		},
		"a cache on a read-only disk": {
			"ro", "--cache-dir", false,
			[]string{"--weights", own},
			"read-only file system\n  hint: the file system of .* is read-only", "fail  cache disk .*: read-only file system",
		},
		"a workspace on a read-only disk": {
			"ro", "--workspace", false,
			[]string{"--weights", "random:0"},
			"read-only file system\n  hint: the file system of .* is read-only", "fail  workspace disk .*: read-only file system",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := t.TempDir()
			options, readOnly := strings.CutPrefix(c.disk, "ro")
			if err := mounttest.Mount(disk, options); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := syscall.Unmount(disk, 0); err != nil {
					t.Error(err)
				}
			})
			folder := filepath.Join(disk, "folder")
			if c.fill {
				err := os.Mkdir(folder, 0o700)
				if c.on == "--cache-dir" {
					_, err = store.Open(folder)
				}
				if err := errors.Join(err, fill(disk)); err != nil {
					t.Fatal(err)
				}
			}
			if readOnly {
				if err := syscall.Mount("", disk, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
					t.Fatal(err)
				}
			}
			w, _ := worlds(t, "stocked")
			engine := dockertest.New(t, w.fake())
			var stdout, stderr bytes.Buffer
			app := appIn(map[string]string{"DOCKER_HOST": engine.Host(), "HOME": t.TempDir()}, &stdout, &stderr)
			folders := map[string]string{"--cache-dir": filepath.Join(t.TempDir(), "cache"), "--workspace": filepath.Join(t.TempDir(), "workspace")}
			folders[c.on] = folder
			flags := append([]string{"--accel", "cpu", "--cache-dir", folders["--cache-dir"], "--workspace", folders["--workspace"]}, c.flags...)
			if code := app.Run(t.Context(), append([]string{"doctor"}, flags...)); code != ExitEnvironment || !matches(c.finding, stdout.String()) {
				t.Errorf("doctor ended with %d: %s%s", code, &stdout, &stderr)
			}
			stderr.Reset()
			if code := app.Run(t.Context(), append([]string{"setup", "--progress", "quiet"}, flags...)); code != ExitEnvironment || !matches(c.stderr, stderr.String()) {
				t.Errorf("setup ended with %d: %s", code, &stderr)
			}
			if strings.Contains(stderr.String(), "--weights takes") {
				t.Errorf("the flag is blamed: %s", &stderr)
			}
			stdout.Reset()
			_, hint, _ := strings.Cut(c.stderr, "hint: ")
			app.Run(t.Context(), append([]string{"setup", "--progress", "quiet", "--format", "json"}, flags...))
			if !matches(`"hint": "`+hint, stdout.String()) {
				t.Errorf("the report lacks the hint: %s", &stdout)
			}
		})
	}
}

// fill leaves neither a byte nor a file on a disk.
func fill(disk string) error {
	var err error
	for i := 0; err == nil && i < 1000; i++ {
		err = os.WriteFile(filepath.Join(disk, fmt.Sprintf("ballast%d", i)), make([]byte, 64<<10), 0o600)
	}
	if errors.Is(err, syscall.ENOSPC) {
		err = nil
	}
	return err
}

// TestFoldersOfOthers lets another user come upon folders that are not theirs.
func TestFoldersOfOthers(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		needtest.Missing(t, "only root can be two users; the test of this name in internal/doctor makes them up")
	}
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const nobody = 65534
	theirs := filepath.Join(dir, "theirs")
	if err := errors.Join(os.Mkdir(theirs, 0o755), os.Chown(theirs, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	for flag, part := range map[string]string{"--cache-dir": "entries", "--workspace": "runs"} {
		mixed := filepath.Join(theirs, "with"+flag) // theirs, but for what root made in it
		if err := errors.Join(os.Mkdir(mixed, 0o755), os.Chown(mixed, nobody, nobody), os.Mkdir(filepath.Join(mixed, part), 0o755)); err != nil {
			t.Fatal(err)
		}
		for name, folder := range map[string]string{"another's": filepath.Join(dir, "x"), "a part of it": mixed} {
			folders := map[string]string{"--cache-dir": filepath.Join(theirs, "c"), "--workspace": filepath.Join(theirs, "w")}
			folders[flag] = folder
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "doctor", "--accel", "cpu", "--weights", "random:0",
				"--cache-dir", folders["--cache-dir"], "--workspace", folders["--workspace"])
			cmd.Args[0] = "dalirun"
			cmd.Dir = dir
			cmd.Env = []string{"DOCKER_HOST=unix://" + filepath.Join(dir, "no.sock"), "HOME=" + dir, "GORACE=atexit_sleep_ms=0"}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
			out, err := cmd.CombinedOutput()
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || ExitCode(exit.ExitCode()) != ExitEnvironment {
				t.Errorf("%s: %v: %s", name, err, out)
			}
			check := map[string]string{"--cache-dir": "cache disk", "--workspace": "workspace disk"}[flag]
			if !matches("fail  "+check+" .*permission denied; it belongs to user root\n .*"+flag, string(out)) {
				t.Errorf("%s as %s: %s", name, flag, out)
			}
		}
	}
	locked := filepath.Join(dir, "locked")
	if err := os.Mkdir(locked, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "plan", "--weights", filepath.Join(locked, "my.pth"))
	cmd.Args[0], cmd.Dir, cmd.Env = "dalirun", dir, []string{"HOME=" + dir, "GORACE=atexit_sleep_ms=0"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err == nil || !matches("--weights .*/my.pth: permission denied\n  hint: let yourself read it", string(out)) {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was made: %v", err)
	}
}
