package docker

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/docker/docker/pkg/jsonmessage"
	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
)

func TestBuildContext(t *testing.T) {
	t.Parallel()
	files := map[string][]byte{"b/c.py": []byte("c"), "a.py": []byte("a"), "b/a": nil}
	first, err := buildContext([]byte("FROM scratch"), files)
	if err != nil {
		t.Fatal(err)
	}
	again, err := buildContext([]byte("FROM scratch"), maps.Clone(files))
	if err != nil || !bytes.Equal(first.Bytes(), again.Bytes()) {
		t.Errorf("the same files gave other bytes (%v)", err)
	}
	want := []string{"Dockerfile 755 0 12", "a.py 755 0 1", "b/a 755 0 0", "b/c.py 755 0 1"}
	var got []string
	for _, h := range headers(t, first) {
		got = append(got, fmt.Sprintf("%s %d", describeHeader(h), h.Size))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"/etc/passwd", "../x", "a/../b", "Dockerfile"} {
		if _, err := buildContext(nil, map[string][]byte{bad: nil}); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}

func headers(t *testing.T, archive io.Reader) []*tar.Header {
	t.Helper()
	var all []*tar.Header
	reader := tar.NewReader(archive)
	for {
		h, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, h)
	}
}

func describeHeader(h *tar.Header) string { return fmt.Sprintf("%s %o %d", h.Name, h.Mode, h.Uid) }

func TestPack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "private"), "x", 0o600)
	write(t, filepath.Join(dir, "run.sh"), "x", 0o700)
	if err := os.Symlink("private", filepath.Join(dir, "zlink")); err != nil {
		t.Fatal(err)
	}
	in, err := volumes(container.Spec{Inputs: []container.Mount{
		{Source: dir, Target: "/in/"}, {Source: filepath.Join(dir, "run.sh"), Target: "/in/more.sh"}, {Source: filepath.Join(dir, "private"), Target: "/job/one"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := volumes(container.Spec{Outputs: []container.Mount{{Source: dir, Target: "/out"}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, user string
		volumes    []volume
		want       []string
	}{
		{"inputs", "1000:100", in, []string{
			"0/ 555 65534", "0/private 444 65534", "0/run.sh 555 65534", "0/zlink 555 65534", "0/more.sh 555 65534",
			"1/ 555 65534", "1/one 444 65534",
		}},
		{"outputs of the caller", "1000:100", out, []string{
			"0/ 755 1000", "0/private 600 1000", "0/run.sh 700 1000", "0/zlink 777 1000",
		}},
	} {
		var b bytes.Buffer
		if err := pack(&b, tt.volumes, tt.user); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, h := range headers(t, &b) {
			got = append(got, describeHeader(h))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func TestVolumesRefuse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	write(t, file, "x", 0o600)
	for name, spec := range map[string]container.Spec{
		"a missing source":       {Inputs: []container.Mount{{Source: filepath.Join(dir, "missing"), Target: "/in"}}},
		"a file as an output":    {Outputs: []container.Mount{{Source: file, Target: "/out"}}},
		"two at one place":       {Inputs: []container.Mount{{Source: dir, Target: "/a"}}, Outputs: []container.Mount{{Source: dir, Target: "/a"}}},
		"a file beside the root": {Inputs: []container.Mount{{Source: file, Target: "/file"}}},
	} {
		if list, err := volumes(spec); err == nil {
			t.Errorf("%s: %+v", name, list)
		}
	}
}

func TestUnpack(t *testing.T) {
	t.Parallel()
	into := t.TempDir()
	write(t, filepath.Join(into, "old"), "old", 0o400)
	archive := pile(t,
		tar.Header{Name: "out/", Typeflag: tar.TypeDir, Mode: 0o755},
		tar.Header{Name: "out/sub/", Typeflag: tar.TypeDir, Mode: 0o555},
		tar.Header{Name: "out/sub/file", Typeflag: tar.TypeReg, Mode: 0o640, Size: 4},
		tar.Header{Name: "out/old", Typeflag: tar.TypeReg, Mode: 0o600, Size: 4},
		tar.Header{Name: "out/link", Typeflag: tar.TypeSymlink, Linkname: "sub/file"},
		tar.Header{Name: "out/hard", Typeflag: tar.TypeLink, Linkname: "out/sub/file"},
		tar.Header{Name: "out/fifo", Typeflag: tar.TypeFifo},
	)
	if err := unpack(archive, into, "out"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sub/file", "old", "link", "hard"} {
		if data, err := os.ReadFile(filepath.Join(into, name)); err != nil || string(data) != "data" {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	if _, err := os.Lstat(filepath.Join(into, "fifo")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("fifo: %v", err)
	}
}

// TestUnpackStaysInside holds that a container's archive cannot write beside the folder that it is for.
func TestUnpackStaysInside(t *testing.T) {
	t.Parallel()
	for name, entries := range map[string][]tar.Header{
		"dots":     {{Name: "out/../../evil", Typeflag: tar.TypeReg, Size: 4}},
		"absolute": {{Name: "/evil", Typeflag: tar.TypeReg, Size: 4}},
		"a link up": {
			{Name: "out/up", Typeflag: tar.TypeSymlink, Linkname: ".."},
			{Name: "out/up/evil", Typeflag: tar.TypeReg, Size: 4},
		},
		"a hard link up": {{Name: "out/evil", Typeflag: tar.TypeLink, Linkname: "out/../../secret"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parent := t.TempDir()
			write(t, filepath.Join(parent, "secret"), "secret", 0o600)
			into := filepath.Join(parent, "into")
			if err := os.Mkdir(into, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := unpack(pile(t, entries...), into, "out"); err == nil {
				t.Error("no error")
			}
			found, err := filepath.Glob(filepath.Join(parent, "*"))
			if err != nil || len(found) != 2 {
				t.Errorf("beside the folder: %q, %v", found, err)
			}
		})
	}
}

func pile(t *testing.T, entries ...tar.Header) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, "data"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestLayers(t *testing.T) {
	t.Parallel()
	at := func(id, status string, current, total int64) jsonmessage.JSONMessage {
		return jsonmessage.JSONMessage{ID: id, Status: status, Progress: &jsonmessage.JSONProgress{Current: current, Total: total}}
	}
	l := newLayers()
	var got []container.Progress
	for _, m := range []jsonmessage.JSONMessage{
		{ID: "24.05-py3", Status: "Pulling from nvidia/tritonserver"},
		{ID: "a", Status: "Already exists"},
		{ID: "b", Status: "Pulling fs layer"},
		{ID: "c", Status: "Pulling fs layer"},
		{ID: "c", Status: "Waiting"},
		at("b", "Downloading", 10, 100),
		at("b", "Downloading", 60, 100),
		at("b", "Downloading", 5, 100), // a retry
		at("c", "Downloading", 1, 50),
		{ID: "b", Status: "Download complete"},
		at("b", "Extracting", 70, 100),
		{ID: "b", Status: "Pull complete"},
		at("c", "Downloading", 50, 50),
		{ID: "c", Status: "Pull complete"},
		{Status: "Digest: sha256:0"},
	} {
		if l.read(m) {
			got = append(got, l.progress())
		}
	}
	last := container.Progress{}
	for i, p := range got {
		if p.Current < last.Current || p.Total < last.Total || p.Total > 0 && p.Current > p.Total {
			t.Errorf("%d: %+v after %+v", i, p, last)
		}
		last = p
	}
	if want := (container.Progress{Text: "3 of 3 layers unpacked", Current: 150, Total: 150}); last != want {
		t.Errorf("at the end %+v, want %+v", last, want)
	}
	if got[5].Total != 0 || got[7].Total != 150 {
		t.Errorf("the total is to be told once each layer's size is known: %+v", got)
	}
}

func TestBuildOutput(t *testing.T) {
	t.Parallel()
	var got []container.Progress
	o := newBuildOutput(func(p container.Progress) { got = append(got, p) })
	for _, s := range []string{"Step 1/12 : FROM x\n", "Step 2/12 : RUN a \t", "b\n", "Step 3 of it\n", " 10%\r", " 50%\r100%\nDone", "\n", "no newline"} {
		o.read(jsonmessage.JSONMessage{Stream: s})
	}
	o.stream.Flush()
	want := []container.Progress{
		{Text: "Step 1/12 : FROM x", Current: 1, Total: 12, Instruction: "FROM"},
		{Text: "Step 2/12 : RUN a \tb", Current: 2, Total: 12, Instruction: "RUN"},
		{Text: "Step 3 of it"},
		{Text: "100%"},
		{Text: "Done"},
		{Text: "no newline"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for range 2 * tailLines {
		o.read(jsonmessage.JSONMessage{Stream: "x\n"})
	}
	if len(o.tail) != tailLines {
		t.Errorf("tail of %d lines", len(o.tail))
	}
}
