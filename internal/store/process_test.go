package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/pipeline"
)

// helperEnv makes the test binary a process that works on a store: its value is one of the modes of helper.
const helperEnv = "DALIRUN_STORE_HELPER"

func TestMain(m *testing.M) {
	if mode := os.Getenv(helperEnv); mode != "" {
		if err := helper(mode, os.Args[1], pipeline.Fingerprint(os.Args[2])); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func helper(mode, dir string, fp pipeline.Fingerprint) error {
	if mode == "below" {
		return belowOnReadOnlyDisk(dir, string(fp))
	}
	if mode == "full" {
		return fullDisk(dir)
	}
	s, err := store.Open(dir)
	if err != nil {
		return err
	}
	switch mode {
	case "hang": // in the middle of a build
		tx, err := s.Begin(context.Background(), fp, nil)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(tx.Dir(), "model"), []byte("half"), 0o600); err != nil {
			return err
		}
		fmt.Println("building")
		_, err = io.Copy(io.Discard, os.Stdin)
		return err
	case "build":
		return buildOnce(s, fp)
	case "read":
		e, err := s.Get(fp)
		if err != nil {
			return err
		}
		fmt.Println("reading")
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			return err
		}
		return errors.Join(e.Verify(), e.Close())
	case "churn": // until killed
		for i := 0; ; i++ {
			if err := churn(s, pipeline.Fingerprint(fmt.Sprintf("%s-%d", fp, i%7))); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("no mode %q", mode)
}

// buildOnce does what a runner does: it builds what nobody else has built.
func buildOnce(s *store.Store, fp pipeline.Fingerprint) error {
	tx, err := s.Begin(context.Background(), fp, func(string) { fmt.Println("waiting") })
	if err != nil {
		return err
	}
	if e, err := s.Get(fp); err == nil {
		fmt.Println("found")
		return errors.Join(e.Verify(), e.Close(), tx.Rollback())
	}
	time.Sleep(150 * time.Millisecond) // long enough for the others to come
	if err := os.WriteFile(filepath.Join(tx.Dir(), "model"), []byte("whole"), 0o600); err != nil {
		return err
	}
	e, err := tx.Commit("s", nil, []string{"model"})
	if err != nil {
		return err
	}
	fmt.Println("built")
	return e.Close()
}

// churn commits, replaces, notes, pins and drops.
func churn(s *store.Store, fp pipeline.Fingerprint) error {
	tx, err := s.Begin(context.Background(), fp, nil)
	if err != nil {
		return err
	}
	for _, name := range []string{"repo/a", "repo/b/c", "rest"} {
		path := filepath.Join(tx.Dir(), name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, make([]byte, 64<<10), 0o600)); err != nil {
			return err
		}
	}
	e, err := tx.Commit("s", pipeline.Facts{"a": "b"}, []string{"repo"})
	if err != nil {
		return err
	}
	return errors.Join(
		s.Note("/w", "step", pipeline.Facts{"rand": strconv.Itoa(rand.Int())}),
		s.Remember("key", strconv.Itoa(rand.Int())),
		s.Pin(context.Background(), e.Values()["repo"].Path, "churn", func() error { return nil }),
		s.Unpin(context.Background(), func(store.Pin) bool { return false }),
		e.Close(),
	)
}

// process is a helper under way.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   *bufio.Reader
}

// start runs a helper on the fingerprint f.
func start(t *testing.T, mode string, s *store.Store) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], s.Dir(), "f")
	cmd.Env = append(os.Environ(), helperEnv+"="+mode)
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	return &process{cmd, stdin, bufio.NewReader(stdout)}
}

func (p *process) line(t *testing.T) string {
	t.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil {
		t.Fatalf("the process said %q and then %v", line, err)
	}
	return strings.TrimSpace(line)
}

// kill ends the process as the kernel does for want of memory.
func (p *process) kill(t *testing.T) {
	t.Helper()
	must(t, p.cmd.Process.Kill())
	_ = p.cmd.Wait() // says that it was killed
}

func TestKilledBuilder(t *testing.T) {
	t.Parallel()
	s := open(t)
	p := start(t, "hang", s)
	if got := p.line(t); got != "building" {
		t.Fatal(got)
	}
	// While it lives it is waited for, and said to be who it is; nothing of it is swept away.
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.Begin(ctx, "f", func(holder string) {
		if want := fmt.Sprintf("process %d, since ", p.cmd.Process.Pid); !strings.HasPrefix(holder, want) {
			t.Errorf("the holder is %q, not %q", holder, want)
		}
		cancel()
	})
	wantErr(t, err, context.Canceled)
	must(t, s.Sweep(t.Context()))
	if n := len(glob(t, s, "tmp/f.*/made/model")); n != 1 {
		t.Fatalf("%d files are under way", n)
	}

	p.kill(t)
	_, err = s.Get("f")
	wantErr(t, err, pipeline.ErrMiss)
	wantEmpty(t, s, "entries")
	// The next builder need not wait, nor sweep first.
	begun := time.Now()
	tx := begin(t, s, "f")
	if took := time.Since(begun); took > time.Second {
		t.Errorf("the next builder waited %v for a dead one", took)
	}
	must(t, s.Sweep(t.Context())) // leaves the old folder too: it cannot tell which of the two lives
	must(t, tx.Rollback())
	must(t, s.Sweep(t.Context()))
	wantEmpty(t, s, "tmp", "locks")
}

func TestProcessesBuildOnce(t *testing.T) {
	t.Parallel()
	s := open(t)
	var all []*process
	for range 4 {
		all = append(all, start(t, "build", s))
	}
	count := map[string]int{}
	for _, p := range all {
		out, err := io.ReadAll(p.out)
		must(t, err)
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		for w := range strings.FieldsSeq(string(out)) {
			count[w]++
		}
	}
	if count["built"] != 1 || count["found"] != 3 {
		t.Errorf("of four processes: %v", count)
	}
	wantEmpty(t, s, "tmp", "locks")
}

func TestEvictWhileAnotherProcessReads(t *testing.T) {
	t.Parallel()
	s := open(t)
	committed(t, s, "f")
	p := start(t, "read", s)
	if got := p.line(t); got != "reading" {
		t.Fatal(got)
	}
	if got := evict(t, s, 0, false); got != "" {
		t.Errorf("%q was evicted under its reader", got)
	}
	must(t, p.stdin.Close())
	if err := p.cmd.Wait(); err != nil {
		t.Error(err)
	}
	if got := evict(t, s, 0, false); got != "f" {
		t.Errorf("%q was evicted", got)
	}
}

// TestKilledAnywhere kills processes that are busy with one store at random moments, while another evicts and sweeps.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	s := open(t)
	rounds := 20
	if testing.Short() {
		rounds = 4
	}
	for i := range rounds {
		a, b := start(t, "churn", s), start(t, "churn", s)
		end := time.After(time.Duration(20+rand.IntN(60)) * time.Millisecond)
		for busy := true; busy; {
			select {
			case <-end:
				busy = false
			default:
				_, err := s.Evict(t.Context(), int64(i%3)*200<<10)
				must(t, errors.Join(err, s.Sweep(t.Context())))
			}
		}
		a.kill(t)
		b.kill(t)
		for _, p := range []*process{a, b} {
			if out, _ := io.ReadAll(p.out); len(out) > 0 {
				t.Errorf("a process ended by itself: %s", out)
			}
		}
		must(t, s.Sweep(t.Context()))
		wantEmpty(t, s, "tmp", "locks")
		for n := range 7 {
			e, err := s.Get(pipeline.Fingerprint(fmt.Sprintf("f-%d", n)))
			if errors.Is(err, pipeline.ErrMiss) {
				continue
			}
			must(t, err)
			must(t, e.Verify())
			closeEntry(t, e)
		}
		if _, err := s.Last("/w", "step"); err != nil {
			t.Error(err)
		}
	}
	must(t, s.Unpin(t.Context(), func(store.Pin) bool { return false }))
	_, err := s.Evict(t.Context(), 0)
	must(t, errors.Join(err, s.Sweep(t.Context())))
	wantEmpty(t, s, "entries", "tmp", "locks", "pins")
}
