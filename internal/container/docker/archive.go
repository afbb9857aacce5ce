package docker

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// owner is whom files in a volume belong to; nil is whoever the image runs as.
type owner struct{ uid, gid int }

// ownerOf reads the user of a container's configuration: "uid:gid" or nothing.
func ownerOf(user string) (*owner, error) {
	if user == "" {
		return nil, nil //nolint:nilnil // nobody is a valid answer
	}
	uid, gid, _ := strings.Cut(user, ":")
	u, err := strconv.Atoi(uid)
	g, gidErr := strconv.Atoi(gid)
	return &owner{u, g}, errors.Join(err, gidErr)
}

// pack writes the contents of a volume as a tar archive.
func pack(w io.Writer, v volume, owned *owner) error {
	p := packer{tar: tar.NewWriter(w), owner: owned, shared: !v.writable || owned == nil, writable: v.writable}
	if err := p.folder("."); err != nil {
		return err
	}
	for _, s := range v.sources {
		if err := p.add(s); err != nil {
			return err
		}
	}
	for _, point := range v.points {
		for i, c := range point + "/" {
			if c != '/' {
				continue
			}
			if err := p.folder(point[:i]); err != nil {
				return err
			}
		}
	}
	return p.tar.Close()
}

type packer struct {
	tar      *tar.Writer
	owner    *owner
	shared   bool // anyone may read: an input, or an output of a user that only the image knows
	writable bool
}

func (p *packer) header(h tar.Header) error {
	if p.owner != nil {
		h.Uid, h.Gid = p.owner.uid, p.owner.gid
	}
	if p.shared && h.Typeflag != tar.TypeSymlink {
		h.Mode |= 0o444
		if h.Mode&0o111 != 0 {
			h.Mode |= 0o111
		}
		if p.writable {
			h.Mode |= 0o222
		}
	}
	return p.tar.WriteHeader(&h)
}

func (p *packer) folder(name string) error {
	return p.header(tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755})
}

// add packs a host file or what is in a host folder. Symbolic links below it stay links; the source itself may be one,
// as it may be for a mount.
func (p *packer) add(s source) error {
	top, err := filepath.EvalSymlinks(s.host)
	if err != nil {
		return err
	}
	return filepath.WalkDir(top, func(host string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, host)
		if err != nil {
			return err
		}
		name := path.Join(s.name, filepath.ToSlash(rel))
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode := int64(info.Mode().Perm())
		switch info.Mode().Type() {
		case fs.ModeDir:
			if name == "." {
				return nil
			}
			return p.header(tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode, ModTime: info.ModTime()})
		case fs.ModeSymlink:
			link, err := os.Readlink(host)
			if err != nil {
				return err
			}
			return p.header(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: link, Mode: 0o777, ModTime: info.ModTime()})
		case 0:
			return p.file(host, tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: info.Size(), ModTime: info.ModTime()})
		default:
			return nil // a socket or a pipe has no contents
		}
	})
}

func (p *packer) file(host string, h tar.Header) (err error) {
	f, err := os.Open(host) //nolint:gosec // below a mount that the caller asked for
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := p.header(h); err != nil {
		return err
	}
	_, err = io.CopyN(p.tar, f, h.Size)
	return err
}

// unpack extracts what is below the folder top of an archive into a host folder. Names and links cannot lead out of it.
func unpack(archive io.Reader, into, top string) (err error) {
	root, err := os.OpenRoot(into)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	reader := tar.NewReader(archive)
	for {
		h, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		first, name, _ := strings.Cut(path.Clean(h.Name), "/")
		if first != top {
			return fmt.Errorf("archive entry %q is not below %q", h.Name, top)
		}
		if name == "" {
			continue
		}
		if err := extract(root, h, filepath.FromSlash(name), reader); err != nil {
			return fmt.Errorf("archive entry %q: %w", h.Name, err)
		}
	}
}

func extract(root *os.Root, h *tar.Header, name string, content io.Reader) error {
	const ownerMayEdit = 0o200
	mode := fs.FileMode(h.Mode).Perm() | ownerMayEdit //nolint:gosec // Perm takes nine bits of it
	if h.Typeflag == tar.TypeDir {
		const ownerMayList = 0o700
		err := root.Mkdir(name, mode|ownerMayList)
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	}
	// What was there when the container started came back unless it was removed or replaced.
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, content) //nolint:gosec // as large as the container made it
		return errors.Join(err, f.Close())
	case tar.TypeSymlink:
		return root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		_, old, _ := strings.Cut(path.Clean(h.Linkname), "/")
		return root.Link(filepath.FromSlash(old), name)
	default:
		return nil // a socket, a pipe or a device has no contents
	}
}

// buildContext packs a build context. The same files give the same bytes, so that a builder's cache hits: sorted, owned
// by root, without times, and executable because a map of contents has no modes and an image FROM scratch no chmod.
func buildContext(dockerfile []byte, files map[string][]byte) (*bytes.Buffer, error) {
	all := maps.Clone(files)
	if all == nil {
		all = map[string][]byte{}
	}
	if _, ok := all[dockerfileName]; ok {
		return nil, fmt.Errorf("the build context has a %s of its own", dockerfileName)
	}
	all[dockerfileName] = dockerfile
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !filepath.IsLocal(name) || path.Clean(name) != name {
			return nil, fmt.Errorf("build context: %q is not a clean relative path", name)
		}
		err := w.WriteHeader(&tar.Header{
			Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(all[name])), ModTime: time.Unix(0, 0),
		})
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(all[name]); err != nil {
			return nil, err
		}
	}
	return &b, w.Close()
}

// dockerfileName is a name that the files of a context do not have by accident.
const dockerfileName = "Dockerfile"
