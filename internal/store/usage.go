package store

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
)

// Usage is what files take on a disk. Files that are hard links to one content take its bytes once.
type Usage struct{ contents map[contentID]content }

func newUsage() Usage { return Usage{contents: map[contentID]content{}} }

// contentID tells contents apart: by device and inode, or by the path where the system does not tell those.
type contentID struct {
	device, inode uint64
	path          string
}

type content struct {
	bytes int64
	names uint64 // how many of the counted files have it
	links uint64 // how many files have it anywhere on the file system
}

// Loss is what became of the contents of files that went.
type Loss struct {
	Freed      int64 `json:"freed_bytes"`              // no file has them any more
	Results    int64 `json:"kept_by_results_bytes"`    // other files of the cache have them
	Workspaces int64 `json:"kept_by_workspaces_bytes"` // files outside of the cache alone have them
}

// Usage returns what the files of the store take. It may or may not count files that other processes delete meanwhile.
func (s *Store) Usage(ctx context.Context) (Usage, error) { return usageOf(ctx, s.path()) }

// usageOf returns what the files in a folder take.
func usageOf(ctx context.Context, dir string) (Usage, error) {
	u := newUsage()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil && d.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				u.add(path, info)
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return u, err
}

func (u Usage) add(path string, info fs.FileInfo) {
	id, links := identify(path, info)
	u.contents[id] = content{bytes: info.Size(), names: u.contents[id].names + 1, links: links}
}

// Bytes is how many bytes there are.
func (u Usage) Bytes() (sum int64) {
	for _, c := range u.contents {
		sum += c.bytes
	}
	return sum
}

// include counts the files of other, too.
func (u Usage) include(other Usage) {
	for id, c := range other.contents {
		c.names += u.contents[id].names
		u.contents[id] = c
	}
}

// exclude takes the files of other, which are among those of u, out of u. It returns by how many bytes u became less.
func (u Usage) exclude(other Usage) (less int64) {
	for id, c := range other.contents {
		left := u.contents[id]
		if left.names > c.names {
			left.names -= c.names
			u.contents[id] = left
			continue
		}
		less += left.bytes
		delete(u.contents, id)
	}
	return less
}

// Without returns u without the files of entries.
func (u Usage) Without(entries []Evicted) Usage {
	left := Usage{contents: maps.Clone(u.contents)}
	for _, e := range entries {
		left.exclude(e.usage)
	}
	return left
}

// LossTo returns what became of the contents of the files that u has and after has no longer.
func (u Usage) LossTo(after Usage) (l Loss) {
	for id, c := range u.contents {
		switch left := after.contents[id].names; {
		case left >= c.names: // nothing went
		case left > 0:
			l.Results += c.bytes
		case c.links > c.names:
			l.Workspaces += c.bytes
		default:
			l.Freed += c.bytes
		}
	}
	return l
}
