package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/dalirun/dalirun"
	"github.com/dalirun/dalirun/internal/classify"
	"github.com/dalirun/dalirun/internal/cli/dockertest"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/internal/result"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/triton/tritontest"
)

// evil is what a terminal or a reader obeys, in a name or a label.
const evil = "\x1b[31mred\x1b]0;title\a \u202egpj\u009b2J \xe9 \x7f"

func isHarmless(t *testing.T, what, text string) {
	t.Helper()
	if !utf8.ValidString(text) {
		t.Errorf("%s is not in UTF-8: %q", what, text)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) }) {
		t.Errorf("%s has what a terminal obeys: %q", what, text)
	}
}

// Names of files, labels of a server and of a file reach no terminal as more than text, and JSON stays JSON.
func TestClassifyOddNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	coffee, err := dalirun.Assets.ReadFile("assets/pictures/coffee.jpg")
	if err != nil {
		t.Fatal(err)
	}
	good, bad, list := filepath.Join(dir, evil+"\ngood.jpg"), filepath.Join(dir, evil+"\nbad.jpg"), filepath.Join(dir, evil+".txt")
	names := labels()
	names[espresso] = evil
	for name, data := range map[string][]byte{good: coffee, bad: coffee[:1000], list: []byte(strings.Join(names, "\n"))} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	server := tritontest.New(t, tritontest.Classifier("ensemble_dali_resnet50", names, func([]byte) ([]float32, error) { return logits(), nil }))
	server.MustLoad("ensemble_dali_resnet50")
	for _, args := range [][]string{
		{good, bad, filepath.Join(dir, evil+"nowhere")},
		{"--labels", list, good, bad, evil},
		{"--labels", evil, good},
		{"--model", "no" + evil, good},
		{"-v", good},
	} {
		for _, format := range []string{"text", "json"} {
			var stdout, stderr bytes.Buffer
			appIn(nil, &stdout, &stderr).Run(t.Context(), append([]string{"classify", "--url", server.Addr(), "--format", format}, args...))
			isHarmless(t, "stdout", stdout.String())
			isHarmless(t, "stderr", stderr.String())
			if format == "text" {
				continue
			}
			var records []classify.Record
			if err := json.Unmarshal(stdout.Bytes(), &records); err != nil {
				t.Fatalf("%q: %v\n%s", args, err, stdout.String())
			}
			if r := records[0]; r.Image != strconv.Quote(good) || string(r.ImageBytes) != good {
				t.Errorf("%q: the picture is %q, %q, not %q", args, r.Image, r.ImageBytes, good)
			}
		}
	}
	var stdout, stderr bytes.Buffer
	appIn(nil, &stdout, &stderr).Run(t.Context(), []string{"classify", "--url", server.Addr(), "--top", "1", good, bad})
	for _, want := range []struct{ where, has string }{{stdout.String(), `\x1b[31mred\x1b]0;title\a \u202egpj\u009b2J \xe9 \x7f\ngood.jpg"  (`}, {stderr.String(), `\nbad.jpg": picture is truncated`}} {
		if !strings.Contains(want.where, want.has) {
			t.Errorf("the name is not spelled out: %q", want.where)
		}
	}
	if got := strings.Count(stdout.String(), "\n"); got != 2 {
		t.Errorf("a name and a class take %d lines: %q", got, stdout.String())
	}
}

// The help of classify names each field of a record, and each class of error that it may have.
func TestClassifyRecordIsDocumented(t *testing.T) {
	t.Parallel()
	help := appIn(nil, io.Discard, io.Discard).classifyCommand().Long
	_, help, _ = strings.Cut(help, "--format json")
	word := func(name string) *regexp.Regexp { return regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `\b`) }
	var names func(reflect.Type)
	names = func(record reflect.Type) {
		for f := range record.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.Anonymous {
				names(f.Type)
			} else if !word(name).MatchString(help) {
				t.Errorf("the help does not name the field %q", name)
			}
		}
	}
	names(reflect.TypeFor[classify.Record]())
	names(reflect.TypeFor[result.Class]())
	for _, code := range []ExitCode{ExitUnclassified, ExitUsage, ExitEnvironment, ExitNotReady, ExitSIGHUP, ExitSIGINT, ExitSIGTERM} {
		if !word(code.class()).MatchString(help) {
			t.Errorf("the help does not name the class %q of %d", code.class(), code)
		}
	}
}

// Values that JSON cannot say break no JSON: infinite ones are null, and an answer that is no number is none.
func TestClassifyValues(t *testing.T) {
	t.Parallel()
	picture := filepath.Join(makePictures(t), "coffee.jpg")
	for _, c := range []struct {
		value float32
		code  ExitCode
		has   string
	}{
		{float32(math.Inf(1)), ExitOK, `"score": null`},
		{float32(math.NaN()), ExitNotReady, `answered with values that are no numbers (NaN)`},
	} {
		answer := logits()
		answer[espresso] = c.value
		server := tritontest.New(t, tritontest.Classifier("ensemble_dali_resnet50", labels(), func([]byte) ([]float32, error) { return answer, nil }))
		server.MustLoad("ensemble_dali_resnet50")
		var stdout, stderr bytes.Buffer
		code := appIn(nil, &stdout, &stderr).Run(t.Context(), []string{"classify", "--url", server.Addr(), "--format", "json", picture})
		var records []classify.Record
		if err := json.Unmarshal(stdout.Bytes(), &records); err != nil || len(records) != 1 || code != c.code || !strings.Contains(stdout.String(), c.has) {
			t.Errorf("%g: %d, %v\n%s%s", c.value, code, err, stdout.String(), stderr.String())
		}
	}
}

// A server that ends with its run is known as well as one that was left running.
func TestClassifyForeground(t *testing.T) {
	t.Parallel()
	w, _ := worlds(t, "stocked")
	engine := dockertest.New(t, w.fake())
	dir := t.TempDir()
	env := map[string]string{"DOCKER_HOST": engine.Host(), "HOME": dir, "DALIRUN_WORKSPACE": filepath.Join(dir, "w")}
	ready := &watcher{word: "ready: grpc", seen: make(chan struct{})}
	asked := make(chan struct{})
	ctx, cancel := stopped(t.Context(), asked, syscall.SIGTERM)
	defer cancel()
	var log bytes.Buffer
	ended := make(chan ExitCode)
	go func() {
		ended <- appIn(env, ready, &log).Run(ctx, []string{"serve", "--accel", "cpu", "--weights", "random:3", "--progress", "quiet"})
	}()
	select {
	case <-ready.seen:
	case code := <-ended:
		t.Fatalf("it ended with %d before it was ready:\n%s", code, log.String())
	}
	picture := filepath.Join(makePictures(t), "coffee.jpg")
	var stdout, stderr bytes.Buffer
	code := appIn(env, &stdout, &stderr).Run(context.WithoutCancel(ctx), []string{"classify", picture})
	const want = "cpu lane, local images, fp32, weights random:3\nwarning: the weights are seeded random ones: labels mean nothing\n"
	if code != ExitOK || stderr.String() != want {
		t.Errorf("it ended with %d: %s", code, stderr.String())
	}
	close(asked)
	if code := <-ended; code != ExitOK {
		t.Errorf("the server ended with %d:\n%s", code, log.String())
	}
}

// A record has the class of the exit code: a disk that is full is the environment's, whatever named the file.
func TestRecordOfFullDisk(t *testing.T) {
	t.Parallel()
	var c classify.Record
	explained := remedy.Explainer{}.Explain(
		pipeline.Usagef("name another picture", "read it: %w", &fs.PathError{Op: "read", Path: "/p/cat.jpg", Err: syscall.EIO}))
	fail(&c, explained)
	if c.ErrorClass != exitCode(explained).class() || c.ErrorClass != "environment" || !strings.Contains(c.Hint, "the disk of /p/cat.jpg does not read") {
		t.Errorf("%+v", c)
	}
}

// Labels that are not as many as the classes are told of before a picture is sent: the model says how many it has.
func TestClassifyCountsLabelsFirst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	coffee, err := dalirun.Assets.ReadFile("assets/pictures/coffee.jpg")
	if err != nil {
		t.Fatal(err)
	}
	good, few, enough := filepath.Join(dir, "good.jpg"), filepath.Join(dir, "few.txt"), filepath.Join(dir, "enough.txt")
	for name, data := range map[string][]byte{good: coffee, few: []byte("one\ntwo\n"), enough: []byte(strings.Join(labels(), "\n"))} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var sent atomic.Int32
	server := tritontest.New(t, tritontest.Classifier("ensemble_dali_resnet50", labels(), func([]byte) ([]float32, error) {
		sent.Add(1)
		return logits(), nil
	}))
	server.MustLoad("ensemble_dali_resnet50")
	for _, c := range []struct {
		labels string
		code   ExitCode
		sent   int32
	}{{few, ExitUsage, 0}, {enough, ExitOK, 1}} {
		sent.Store(0)
		var stderr bytes.Buffer
		code := appIn(nil, io.Discard, &stderr).Run(t.Context(), []string{"classify", "--url", server.Addr(), "--labels", c.labels, good})
		if code != c.code || sent.Load() != c.sent {
			t.Errorf("%s: it ended with %d after %d pictures: %s", filepath.Base(c.labels), code, sent.Load(), &stderr)
		}
	}
}
