package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/dalirun/dalirun/pipeline"
)

// BenchmarkGet reads an entry like a model repository: 12 files.
func BenchmarkGet(b *testing.B) {
	s := open(b)
	files := tree{}
	for i := range 12 {
		files[fmt.Sprintf("repo/model%d/1/model", i)] = "x"
	}
	commit(b, s, "f", files, "repo")
	for b.Loop() {
		closeEntry(b, get(b, s, "f"))
	}
}

// BenchmarkCommit stores a file of 100 MB, the size of ResNet50's ONNX file.
func BenchmarkCommit(b *testing.B) {
	const size = 100_000_000
	s := open(b)
	content := make([]byte, size)
	b.SetBytes(size)
	for b.Loop() {
		b.StopTimer()
		tx := begin(b, s, "f")
		must(b, os.WriteFile(filepath.Join(tx.Dir(), "model.onnx"), content, 0o600))
		b.StartTimer()
		e, err := tx.Commit("export-onnx", nil, []string{"model.onnx"})
		must(b, err)
		b.StopTimer()
		closeEntry(b, e)
		b.StartTimer()
	}
}

// BenchmarkVerify hashes a file of 100 MB.
func BenchmarkVerify(b *testing.B) {
	const size = 100_000_000
	s := open(b)
	commit(b, s, "f", tree{"model": string(make([]byte, size))}, "model")
	e := get(b, s, "f")
	defer closeEntry(b, e)
	b.SetBytes(size)
	for b.Loop() {
		must(b, e.Verify())
	}
}

// BenchmarkSweep looks through a store of 100 entries with nothing to do.
func BenchmarkSweep(b *testing.B) {
	s := open(b)
	for i := range 100 {
		commit(b, s, pipeline.Fingerprint(strconv.Itoa(i)), tree{"a": "x"}, "a")
	}
	for b.Loop() {
		must(b, s.Sweep(b.Context()))
	}
}
