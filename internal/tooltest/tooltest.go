// Package tooltest holds what real tools printed and exported, each recording once: for the tests of what reads it, and
// for the stubs that print it again.
package tooltest

import (
	"compress/gzip"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

//go:embed testdata/*.log testdata/*.txt testdata/*.gz
var recordings embed.FS

// Output returns a recording, of which testdata/README.md says what it is. It panics if there is none of this name,
// which is without the .gz of those that are compressed.
func Output(name string) string {
	file := path.Join("testdata", name)
	if data, err := recordings.ReadFile(file); err == nil {
		return string(data)
	}
	text, err := unzipped(file + ".gz")
	if err != nil {
		panic(fmt.Errorf("no recording %s: %w", name, err))
	}
	return text
}

func unzipped(file string) (string, error) {
	f, err := recordings.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // it is in memory
	z, err := gzip.NewReader(f)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(z)
	return string(data), err
}

// Names returns the names of all recordings, as [Output] takes them.
func Names() []string {
	entries, err := fs.ReadDir(recordings, "testdata")
	if err != nil {
		panic(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".gz"))
	}
	return names
}

// TrtexecHelp returns the help of trtexec 10.6, which it prints where it does not know an option.
func TrtexecHelp() string {
	_, help, _ := strings.Cut(Output("trtexec-10.6-unknown--buildOnly.log"), "\n") // the command
	help, _, _ = strings.Cut(help, "&&&& FAILED")
	return help
}
