package store

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/dalirun/dalirun/pipeline"
)

const (
	manifestName = "manifest.json"
	retiredName  = "retired.json" // a manifest's name once its entry is retired
	filesName    = "files"

	// manifestVersion is raised when a reader of the old form would misread the new one. An entry of another version is
	// a miss.
	manifestVersion = 1
)

// errVersion says that another version of dalirun wrote a manifest.
var errVersion = errors.New("written by another version of dalirun")

// manifest describes a committed entry.
type manifest struct {
	Fingerprint pipeline.Fingerprint `json:"fingerprint"`
	Step        pipeline.ID          `json:"step"`
	Facts       pipeline.Facts       `json:"facts"`
	Committed   time.Time            `json:"committed"`
	Outputs     []output             `json:"outputs"`
}

// output is one named file or folder.
type output struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
	Nodes  []node `json:"nodes"` // in the order of their paths; the first is the output itself
}

// node is one file or folder of an output.
type node struct {
	Path   string `json:"path"` // slash-separated, relative to the entry's files
	Dir    bool   `json:"dir,omitempty"`
	Exec   bool   `json:"exec,omitempty"`   // of a file: its owner may execute it
	Size   int64  `json:"size,omitempty"`   // of a file, in bytes
	MTime  int64  `json:"mtime"`            // nanoseconds since 1970
	Digest string `json:"digest,omitempty"` // of a file's content
}

// sealed is the content of a manifest's file: the manifest, and its hash, which distinguishes damage of the manifest
// from damage of the files that it lists.
type sealed struct {
	Version int             `json:"version"`
	SHA256  string          `json:"sha256"` // of Entry's bytes
	Entry   json.RawMessage `json:"entry"`
}

func encodeManifest(m manifest) ([]byte, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return seal(body)
}

func seal(body []byte) ([]byte, error) {
	sum := sha256.Sum256(body)
	return json.Marshal(sealed{Version: manifestVersion, SHA256: hex.EncodeToString(sum[:]), Entry: body})
}

// decodeManifest returns errVersion, or another error for bytes that encodeManifest cannot have written.
func decodeManifest(data []byte) (manifest, error) {
	var s sealed
	if err := json.Unmarshal(data, &s); err != nil {
		return manifest{}, err
	}
	if s.Version != manifestVersion {
		return manifest{}, errVersion
	}
	if sum := sha256.Sum256(s.Entry); hex.EncodeToString(sum[:]) != s.SHA256 {
		return manifest{}, errors.New("its checksum is wrong")
	}
	var m manifest
	if err := json.Unmarshal(s.Entry, &m); err != nil {
		return manifest{}, err
	}
	for _, o := range m.Outputs {
		if err := o.check(); err != nil {
			return manifest{}, err
		}
	}
	return m, nil
}

// isOutputName reports whether name can be that of a file or folder directly in the builder's folder.
func isOutputName(name string) bool {
	return name != "." && !strings.ContainsAny(name, `/\`) && filepath.IsLocal(name)
}

// check refuses an output whose paths lead out of the entry.
func (o output) check() error {
	if !isOutputName(o.Name) {
		return fmt.Errorf("it lists an output %q", o.Name)
	}
	if len(o.Nodes) == 0 || o.Nodes[0].Path != o.Name {
		return fmt.Errorf("it does not list the files of %q", o.Name)
	}
	for _, n := range o.Nodes[1:] {
		if !strings.HasPrefix(n.Path, o.Name+"/") || !filepath.IsLocal(filepath.FromSlash(n.Path)) {
			return fmt.Errorf("it lists a file %q", n.Path)
		}
	}
	return nil
}
