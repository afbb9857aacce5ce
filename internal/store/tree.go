package store

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"unicode/utf8"

	"github.com/dalirun/dalirun/internal/fsync"
)

// The modes of committed files and folders. Everybody may read them, because the user in a container may be another
// than the store's. The mode of the store's own folder keeps other users of the host out. Folders stay writable for
// their owner, who could not delete their contents otherwise.
const (
	fileMode       = 0o444
	executableMode = 0o555
	folderMode     = 0o755

	// manifestMode lets the owner write, which an exclusive lock needs over NFS. A manifest's checksum shows changes.
	manifestMode = 0o644
)

// survey lists and hashes the output name in the folder files. With makeDurable it also makes all of it durable and
// read-only.
func survey(files, name string, makeDurable bool) (output, error) {
	o := output{Name: name}
	var folders []string
	err := filepath.WalkDir(filepath.Join(files, name), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(files, path)
		if err != nil {
			return err
		}
		if !utf8.ValidString(rel) {
			return fmt.Errorf("the name %q is not UTF-8", rel)
		}
		n := node{Path: filepath.ToSlash(rel), Dir: d.IsDir()}
		switch {
		case d.IsDir():
			folders = append(folders, path)
			if makeDurable {
				err = os.Chmod(path, folderMode) //nolint:gosec // see folderMode: the store's own folder keeps others out
			}
		case d.Type().IsRegular():
			err = n.read(path, makeDurable)
		default:
			err = fmt.Errorf("%s is neither a file nor a folder: only those can be stored", n.Path)
		}
		o.Nodes = append(o.Nodes, n)
		return err
	})
	if err != nil {
		return output{}, err
	}
	if makeDurable {
		slices.Reverse(folders) // a folder's contents before the folder
		for _, f := range folders {
			if err := fsync.Dir(f); err != nil {
				return output{}, err
			}
		}
	}
	if err := o.stamp(files); err != nil {
		return output{}, err
	}
	slices.SortFunc(o.Nodes, func(a, b node) int { return cmp.Compare(a.Path, b.Path) })
	o.Digest = o.digest()
	return o, nil
}

// read fills in the size, digest and executable bit of the file at path.
func (n *node) read(path string, makeDurable bool) (err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) && makeDurable { // the builder made the file unreadable for its own user
		if err := os.Chmod(path, 0o600); err != nil {
			return err
		}
		f, err = os.Open(path)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	n.Exec = info.Mode()&0o100 != 0
	h := sha256.New()
	if n.Size, err = io.Copy(h, f); err != nil {
		return err
	}
	n.Digest = "sha256:" + hex.EncodeToString(h.Sum(nil))
	if !makeDurable {
		return nil
	}
	mode := fs.FileMode(fileMode)
	if n.Exec {
		mode = executableMode
	}
	return errors.Join(f.Chmod(mode), f.Sync())
}

// stamp adds the times once nothing is written any more, and checks that sizes are those of the hashed contents.
func (o *output) stamp(files string) error {
	for i := range o.Nodes {
		n := &o.Nodes[i]
		info, err := os.Lstat(filepath.Join(files, filepath.FromSlash(n.Path)))
		if err != nil {
			return err
		}
		if !n.Dir && info.Size() != n.Size {
			return fmt.Errorf("%s changed while it was read", n.Path)
		}
		n.MTime = info.ModTime().UnixNano()
	}
	return nil
}

// digest identifies the output: a file by its content alone, and a folder by the names, contents and executable bits of
// all that it holds, empty folders included. It depends neither on the output's own name nor on any time.
func (o *output) digest() string {
	if !o.Nodes[0].Dir {
		return o.Nodes[0].Digest
	}
	h := sha256.New()
	fmt.Fprint(h, "dalirun folder 1\n")
	for _, n := range o.Nodes[1:] {
		rel := n.Path[len(o.Name)+1:]
		if n.Dir {
			fmt.Fprintf(h, "%q folder\n", rel)
		} else {
			fmt.Fprintf(h, "%q %s executable=%t\n", rel, n.Digest, n.Exec)
		}
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// removeTree deletes path, also where a builder left folders that their owner may not write.
func removeTree(path string) error {
	err := os.RemoveAll(path)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	//nolint:errcheck,gosec // the second RemoveAll reports what cannot be made writable
	filepath.WalkDir(path, func(p string, d fs.DirEntry, _ error) error {
		if d != nil && d.IsDir() {
			os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(path)
}
