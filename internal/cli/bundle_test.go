package cli

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// unpackBundle unpacks an archive that doctor wrote into the current folder.
func unpackBundle(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 1, 1, "unpack FILE")
	zip, err := gzip.NewReader(strings.NewReader(ts.ReadFile(args[0])))
	ts.Check(err)
	for archive := tar.NewReader(zip); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		ts.Check(err)
		if !filepath.IsLocal(h.Name) || h.Typeflag != tar.TypeReg {
			ts.Fatalf("%s has a file %q of type %c", args[0], h.Name, h.Typeflag)
		}
		name := ts.MkAbs(h.Name)
		ts.Check(os.MkdirAll(filepath.Dir(name), 0o755))
		data, err := io.ReadAll(archive)
		ts.Check(err)
		ts.Check(os.WriteFile(name, data, 0o600))
	}
}

// allFiles prints the names and the contents of all files of a folder.
func allFiles(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 1, 1, "allfiles FOLDER")
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		_, _ = io.WriteString(ts.Stdout(), filepath.Base(path)+"\n"+string(data)+"\n")
		return err
	}))
}
