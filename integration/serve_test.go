//go:build integration

package integration

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	assets "github.com/dalirun/dalirun"
	"github.com/dalirun/dalirun/triton"
)

// ready waits until a serve in the foreground says so on stdout, and returns its gRPC address.
func (p *process) ready(t *testing.T) string {
	t.Helper()
	var grpc string
	p.until(t, "that the server is ready", func() bool {
		line, _, whole := strings.Cut(p.stdout.String(), "\n")
		_, rest, found := strings.Cut(line, "ready: grpc ")
		grpc, _, _ = strings.Cut(rest, " ")
		return whole && found
	})
	return grpc
}

func sample(t *testing.T) []byte {
	t.Helper()
	data, err := assets.Assets.ReadFile("assets/pictures/coffee.jpg")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// huge returns a JPEG whose header says 30,000 × 30,000.
func huge(t *testing.T) []byte {
	t.Helper()
	data := sample(t)
	for at := 2; at+9 < len(data); at += 2 + int(binary.BigEndian.Uint16(data[at+2:])) {
		if marker := data[at+1]; marker >= 0xC0 && marker <= 0xC2 {
			binary.BigEndian.PutUint16(data[at+5:], 30_000)
			binary.BigEndian.PutUint16(data[at+7:], 30_000)
			return data
		}
	}
	t.Fatal("the sample has no frame header")
	return nil
}

// noise returns a WebP that is in order but for what is compressed in it.
func noise(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile("../internal/picture/testdata/kinds/webp-lossless.webp")
	if err != nil {
		t.Fatal(err)
	}
	const header = 25 // bytes of the container, and of the bitstream's signature and size
	for i := range data[header:] {
		data[header+i] = 0xAA
	}
	return data
}

// undecodable returns a PNG that is in order but for what is compressed in it.
func undecodable() []byte {
	chunk := func(name string, body []byte) []byte {
		out := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
		out = append(append(out, name...), body...)
		return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out[4:]))
	}
	header := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 64), 64)
	return bytes.Join([][]byte{
		[]byte("\x89PNG\r\n\x1a\n"), chunk("IHDR", append(header, 8, 2, 0, 0, 0)), chunk("IDAT", bytes.Repeat([]byte{0xAA}, 500)), chunk("IEND", nil),
	}, nil)
}

func write(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// answer is what classify --format json prints for a picture.
type answer struct {
	Lane, Weights, Error string
	Source               string `json:"image_source"`
	LabelsMeanNothing    bool   `json:"labels_mean_nothing"`
	Classes              []struct {
		Index       int
		Label       string
		Probability float64
	}
}

func TestServe(t *testing.T) {
	t.Parallel()
	c := cpuLane(t)
	var taken []string // of the usual ports; what another test has it may give up again
	for _, port := range []int{triton.PortHTTP, triton.PortGRPC, triton.PortMetrics} {
		if l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			t.Cleanup(func() { _ = l.Close() })
			taken = append(taken, ":"+strconv.Itoa(port))
		}
	}
	o := opts{Dir: t.TempDir()}
	p := start(t, c.engine, o, c.args("serve")...)
	grpc := p.ready(t)
	for _, usual := range taken {
		if strings.Contains(p.stdout.String(), usual+" ") || strings.HasSuffix(strings.TrimSpace(p.stdout.String()), usual) {
			t.Errorf("it says that it has a port that is in use: %s", &p.stdout)
		}
	}
	good := write(t, o.Dir, "coffee.jpg", sample(t))
	want := readReport(t, c.first.Stdout).Top[0]

	r := mustRun(t, 0, c.engine, o, "classify", good, "--format", "json")
	var answers []answer
	if err := json.Unmarshal([]byte(r.Stdout), &answers); err != nil || len(answers) != 1 || answers[0].Classes[0].Index != want.Index {
		t.Errorf("classify: %v, want class %d\n%s", err, want.Index, r.Stdout)
	}
	if a := answers[0]; a.Lane != "cpu" || a.Source != "local" || a.Weights != "random:0" || !a.LabelsMeanNothing {
		t.Errorf("classify does not say what a server in the foreground is: %s", r.Stdout)
	}
	badPictures(t, c, o, good)
	badPicturesOnTheServer(t, grpc, want.Index)

	labels := write(t, o.Dir, "labels.txt", []byte(strings.Repeat("of my own\n", 1000)))
	r = mustRun(t, 0, c.engine, opts{Dir: t.TempDir()}, // no workspace has a server there: --url finds it
		"classify", "--model_name", "ensemble_dali_resnet50", "--image", good, "--url", grpc, "-v", "--label_file", labels)
	if strings.Contains(r.Stdout, want.Label) || strings.Count(r.Stdout, "of my own") != 5 || !strings.Contains(r.Stderr, "triton") {
		t.Errorf("the tutorial's flags: %s%s", r.Stdout, r.Stderr)
	}
	if r = mustRun(t, 0, c.engine, o, "ps"); !strings.Contains(r.Stdout, workspace(o.Dir)) || !strings.Contains(r.Stdout, grpc) {
		t.Errorf("ps does not list the server:\n%s", r.Stdout)
	}
	if r = mustRun(t, 3, c.engine, o, c.args("serve")...); !strings.Contains(r.Stderr, "has a server already: ") || !strings.Contains(r.Stderr, "of another `dalirun serve`") {
		t.Errorf("a second serve: %s", r.Stderr)
	}

	interrupted := time.Now()
	p.signal(t, syscall.SIGINT)
	if r := p.wait(t); r.Code != 0 {
		t.Errorf("serve ended with %d after Ctrl-C\n%s", r.Code, r.Stderr)
	}
	t.Logf("the server drained within %s", time.Since(interrupted).Round(time.Millisecond))
	c.checkNoContainer(t, o.Dir)
}

// badPictures are refused by the client, and the server answers the next good one.
func badPictures(t *testing.T, c cpu, o opts, good string) {
	t.Helper()
	for _, bad := range []struct {
		name, says string
		data       []byte
	}{
		{"empty.jpg", "empty", nil},
		{"cut.jpg", "truncated", sample(t)[:10_000]},
		{"text.jpg", "JPEG", []byte("this is not a picture, although its name says so\n")},
		{"huge.jpg", "30,000", huge(t)},
	} {
		r := run(t, c.engine, o, "classify", write(t, o.Dir, bad.name, bad.data), good)
		if r.Code != 2 || !strings.Contains(r.Stderr, bad.name) || !strings.Contains(strings.ReplaceAll(r.Stderr, "30000", "30,000"), bad.says) {
			t.Errorf("%s: exit code %d\n%s", bad.name, r.Code, r.Stderr)
		}
		if !strings.Contains(r.Stdout, filepath.Base(good)) {
			t.Errorf("the good picture beside %s has no answer:\n%s", bad.name, r.Stdout)
		}
	}
	// Nothing shows the client what is wrong with this one.
	r := run(t, c.engine, o, "classify", write(t, o.Dir, "noise.webp", noise(t)), good)
	if r.Code != 2 || !strings.Contains(r.Stderr, "cannot be decoded") || !strings.Contains(r.Stdout, filepath.Base(good)) {
		t.Errorf("a picture that the server cannot decode: exit code %d\n%s%s", r.Code, r.Stderr, r.Stdout)
	}
}

// badPicturesOnTheServer are refused by the server where no client held them back, one by one and beside good ones.
func badPicturesOnTheServer(t *testing.T, grpc string, want int) {
	t.Helper()
	client, err := triton.Dial(grpc)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close() //nolint:errcheck // nothing is in flight
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	good := func() {
		t.Helper()
		classes, err := client.Classify(ctx, "ensemble_dali_resnet50", sample(t), 1)
		if err != nil || classes[0].Index != want {
			t.Errorf("a good picture after a bad one: %v, %v", classes, err)
		}
	}
	for _, bad := range [][]byte{undecodable(), huge(t), []byte("text"), {0xFF}} {
		if classes, err := client.Classify(ctx, "ensemble_dali_resnet50", bad, 1); !errors.Is(err, triton.ErrInvalid) {
			t.Errorf("a bad picture: %v, %v; want %v", classes, err, triton.ErrInvalid)
		}
		good()
	}

	const requests = 24 // one in three is bad
	before := executions(ctx, t, client)
	var all sync.WaitGroup
	for i := range requests {
		all.Go(func() {
			picture := sample(t)
			if i%3 == 0 {
				picture = undecodable()
			}
			classes, err := client.Classify(ctx, "ensemble_dali_resnet50", picture, 1)
			switch {
			case i%3 == 0 && !errors.Is(err, triton.ErrInvalid):
				t.Errorf("a bad picture among good ones: %v, %v", classes, err)
			case i%3 != 0 && (err != nil || classes[0].Index != want):
				t.Errorf("a good picture among bad ones: %v, %v", classes, err)
			}
		})
	}
	all.Wait()
	if batches := executions(ctx, t, client) - before; batches >= requests {
		t.Errorf("%d requests were %d executions: none of them was in a batch with another", requests, batches)
	}
	good()
}

// executions is how many batches DALI has decoded.
func executions(ctx context.Context, t *testing.T, client *triton.Client) uint64 {
	t.Helper()
	statistics, err := client.Statistics(ctx, "dali")
	if err != nil || len(statistics) != 1 {
		t.Fatalf("statistics: %v, %v", statistics, err)
	}
	return statistics[0].Executions
}

func TestDetachedServer(t *testing.T) {
	t.Parallel()
	c := cpuLane(t)
	c.bystanders(t)
	o := opts{Dir: t.TempDir()}
	mustRun(t, 0, c.engine, o, c.args("serve", "--detach")...)
	t.Cleanup(func() {
		if t.Failed() {
			run(t, c.engine, o, "stop")
		}
	})
	server := c.engine.containers(t, workspace(o.Dir))
	if len(server) != 1 {
		t.Fatalf("containers: %v", server)
	}
	if r := mustRun(t, 3, c.engine, o, c.args("serve")...); !strings.Contains(r.Stderr, "has a server already") {
		t.Errorf("a second serve: %s", r.Stderr)
	}
	for _, dir := range []string{o.Dir, t.TempDir()} {
		mustRun(t, 0, c.engine, opts{Dir: dir}, c.args("e2e")...)
	}
	mustRun(t, 0, c.engine, o, "gc", "--cache-dir", c.cache)
	mustRun(t, 0, c.engine, o, "classify", write(t, o.Dir, "coffee.jpg", sample(t)))
	if left := c.engine.containers(t, workspace(o.Dir)); len(left) != 1 || name(left[0]) != name(server[0]) {
		t.Errorf("containers: %v, want %v alone", left, server)
	}
	r := mustRun(t, 0, c.engine, o, "stop")
	if !strings.Contains(r.Stdout, name(server[0])) {
		t.Errorf("stop: %s", r.Stdout)
	}
	c.checkNoContainer(t, o.Dir)
	if r := mustRun(t, 5, c.engine, o, "classify", filepath.Join(o.Dir, "coffee.jpg")); !strings.Contains(r.Stderr, "dalirun serve") {
		t.Errorf("classify without a server: %s", r.Stderr)
	}
	mustRun(t, 0, c.engine, o, "stop") // once more is no error
}

// name is that of a row of containers.
func name(row string) string { before, _, _ := strings.Cut(row, " "); return before }

func TestServerIsKilled(t *testing.T) {
	t.Parallel()
	c := cpuLane(t)
	o := opts{Dir: t.TempDir()}
	p := start(t, c.engine, o, c.args("serve")...)
	p.ready(t)
	server := c.engine.containers(t, workspace(o.Dir))
	if len(server) != 1 {
		t.Fatalf("containers: %v", server)
	}
	killed := time.Now()
	if err := c.engine.client(t).ContainerKill(t.Context(), name(server[0]), "KILL"); err != nil {
		t.Fatal(err)
	}
	r := p.wait(t)
	took := time.Since(killed)
	t.Logf("serve ended %s after its server", took.Round(time.Millisecond))
	if r.Code != 5 || !strings.Contains(r.Stderr, "137") || took > 10*time.Second {
		t.Errorf("exit code %d after %s\n%s", r.Code, took, r.Stderr)
	}
	c.checkNoContainer(t, o.Dir)
}
