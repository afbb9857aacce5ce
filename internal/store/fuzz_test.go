package store

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/pipeline"
)

// FuzzStoreDecode: what is decoded leads to no file outside the entry, and is what would be written again.
func FuzzStoreDecode(f *testing.F) {
	good := manifest{
		Fingerprint: "f", Step: "assemble-repository", Facts: pipeline.Facts{"argv": "x"}, Committed: time.Unix(1, 2).UTC(),
		Outputs: []output{{Name: "repo", Digest: "sha256:0", Nodes: []node{
			{Path: "repo", Dir: true, MTime: 1}, {Path: "repo/m", Exec: true, Size: 3, MTime: 2, Digest: "sha256:1"},
		}}},
	}
	file, err := encodeManifest(good)
	if err != nil {
		f.Fatal(err)
	}
	body, err := json.Marshal(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file)
	f.Add(file[:len(file)/2])
	f.Add(body)
	f.Add([]byte(strings.Replace(string(body), "repo/m", "repo/../../m", 1)))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, data []byte) {
		// Once as it is, and once with a right checksum, so that what is below it is reached.
		for _, d := range [][]byte{data, Seal(data)} {
			m, err := decodeManifest(d)
			if err != nil {
				continue
			}
			for _, o := range m.Outputs {
				for _, n := range o.Nodes {
					if p := filepath.FromSlash(n.Path); !filepath.IsLocal(p) || !strings.HasPrefix(n.Path+"/", o.Name+"/") {
						t.Errorf("the output %q has the file %q", o.Name, n.Path)
					}
				}
				_ = o.digest() // must not panic
			}
			again, err := encodeManifest(m)
			if err != nil {
				t.Fatal(err)
			}
			back, err := decodeManifest(again)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(m, back); diff != "" {
				t.Error(diff)
			}
		}
	})
}
