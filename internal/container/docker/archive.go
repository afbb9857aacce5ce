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

	"github.com/dalirun/dalirun/internal/container"
)

// nobody is the user and group of files that a container may only read: the kernel's overflow IDs.
const nobody = 65534

// pack writes the contents of volumes as a tar archive, each below its number. user is that of the container,
// "uid:gid".
func pack(w io.Writer, volumes []volume, user string) error {
	archive := tar.NewWriter(w)
	for i, v := range volumes {
		if err := packVolume(archive, v, user, strconv.Itoa(i)); err != nil {
			return err
		}
	}
	return archive.Close()
}

// packAlone writes the contents of one volume as a tar archive.
func packAlone(w io.Writer, v volume, user string) error {
	archive := tar.NewWriter(w)
	if err := packVolume(archive, v, user, "."); err != nil {
		return err
	}
	return archive.Close()
}

// packVolume writes the contents of a volume, and its own owner, below a folder of an archive.
func packVolume(archive *tar.Writer, v volume, user, top string) error {
	p := newInputPacker(archive)
	if v.output {
		if err := p.belong(user); err != nil {
			return err
		}
	}
	if err := p.header(tar.Header{Typeflag: tar.TypeDir, Name: top + "/", Mode: 0o755}); err != nil {
		return err
	}
	for _, s := range v.sources {
		if err := p.add(s.host, path.Join(top, s.name), top); err != nil {
			return err
		}
	}
	return nil
}

// packInput writes the file or folder of a mount as a tar archive, under the last name of its target.
func packInput(w io.Writer, m container.Mount) error {
	archive := tar.NewWriter(w)
	p := newInputPacker(archive)
	if err := p.add(m.Source, path.Base(m.Target), ""); err != nil {
		return err
	}
	return archive.Close()
}

// newInputPacker returns what packs files that a container may only read.
func newInputPacker(archive *tar.Writer) packer {
	return packer{tar: archive, uid: nobody, gid: nobody, set: 0o444, clear: 0o222}
}

type packer struct {
	tar        *tar.Writer
	uid, gid   int
	set, clear int64 // mode bits to set and to clear
}

// belong sets the owner of packed files to the user.
func (p *packer) belong(user string) error {
	uid, gid, _ := strings.Cut(user, ":")
	var uidErr, gidErr error
	p.uid, uidErr = strconv.Atoi(uid)
	p.gid, gidErr = strconv.Atoi(gid)
	p.set, p.clear = 0, 0
	return errors.Join(uidErr, gidErr)
}

func (p *packer) header(h tar.Header) error {
	h.Uid, h.Gid = p.uid, p.gid
	if h.Mode&0o111 != 0 && p.set != 0 {
		h.Mode |= 0o111 // everybody who may read may also search or execute
	}
	h.Mode = (h.Mode | p.set) &^ p.clear
	h.Format = tar.FormatPAX // others round times to seconds, and by times tritonserver sees what changed
	return p.tar.WriteHeader(&h)
}

// add packs a host file, or the contents of a host folder. Symbolic links in the folder stay links. The source itself
// may be a link, as for a mount.
func (p *packer) add(source, dest, volume string) error {
	source, err := filepath.EvalSymlinks(source)
	if err != nil {
		return err
	}
	return filepath.WalkDir(source, func(host string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(source, host)
		if err != nil {
			return err
		}
		name := path.Join(dest, filepath.ToSlash(rel))
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode := int64(info.Mode().Perm())
		switch info.Mode().Type() {
		case fs.ModeDir:
			if name == volume {
				return nil // its header was written before, also for volumes with single files
			}
			return p.header(tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode, ModTime: info.ModTime()})
		case fs.ModeSymlink:
			link, err := os.Readlink(host)
			if err != nil {
				return err
			}
			return p.header(tar.Header{
				Typeflag: tar.TypeSymlink, Name: name, Linkname: link, Mode: 0o777,
				ModTime: info.ModTime(),
			})
		case 0:
			return p.file(host, tar.Header{
				Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: info.Size(),
				ModTime: info.ModTime(),
			})
		default:
			return nil // a socket or a pipe has no contents
		}
	})
}

func (p *packer) file(host string, h tar.Header) (err error) {
	f, err := os.Open(host)
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

// unpack extracts the contents of the archive's folder, which has one of the names in tops, into a host folder. Names
// and links cannot lead out of that.
func unpack(archive io.Reader, into string, tops ...string) (err error) {
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
		if !slices.Contains(tops, first) {
			return fmt.Errorf("archive entry %q is not below %q", h.Name, tops[0])
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
	mode := fs.FileMode(h.Mode).Perm() | ownerMayEdit //nolint:gosec // Perm keeps nine bits
	if h.Typeflag == tar.TypeDir {
		const ownerMayList = 0o700
		err := root.Mkdir(name, mode|ownerMayList)
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	}
	// A file that was copied into the container comes back unless the container removed or replaced it.
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, content)
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

// buildContext packs a build context. The same files give the same bytes, so that the builder's cache hits: they are
// sorted, owned by root, and without times. They are executable, because a map of contents has no modes, and an image
// FROM scratch no chmod.
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

// dockerfileName is a name that no other file of a context has.
const dockerfileName = "Dockerfile"
