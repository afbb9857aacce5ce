package classify

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/dalirun/dalirun/internal/bounded"
	"github.com/dalirun/dalirun/internal/picture"
	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/pipeline"
)

const (
	// listWithin is how long it may take to find the pictures of all folders and patterns: a disk of the network may
	// hang, and one with millions of files takes minutes.
	listWithin = 30 * time.Minute
	// listBytes bounds a list of names, which is in memory as a whole: some 600,000 names of 100 bytes.
	listBytes = 64 << 20
)

// Picture is one that is to be asked about.
type Picture struct {
	Name string // of its file, or of what was named in its place
	Err  error  // why there is no such picture, where that is known already
}

// Names say which pictures are to be asked about.
type Names struct {
	Arguments []string // files, folders and patterns; [userfile.Stdin] is standard input
	List      string   // name of a file with the names of files and folders; empty for none
	Written   string   // how List was set, for errors, as in "--files-from list.txt"
	Null      bool     // the names in the list end with NUL, not with a line feed
}

// Pictures returns the pictures that are named, those of the arguments first. What is wrong with one name is the error
// of one picture; the error returned is of the list, or says that nothing is named.
//
// A folder stands for the files in it and in the folders below it whose names are those of pictures
// ([picture.HasExtension]), in the order of their names. What is hidden (its name begins with a dot) is left out, and
// so is what is no file; links to files are followed, and links to folders only where they are named themselves, so
// that no link leads around for ever. A pattern (*, ?, [...], {a,b}, and ** for folders at any depth) stands for what
// it matches, each as if it were named, of ** the files alone; one that is the name of a file, or matches nothing, is
// a name.
func Pictures(ctx context.Context, files *userfile.Reader, names Names) ([]Picture, error) {
	if names.Null && names.List == "" {
		return nil, pipeline.Usagef("name the list with --files-from, or drop --null",
			"--null is about a list, and none is named")
	}
	if len(names.Arguments) == 0 && names.List == "" {
		return nil, pipeline.Usagef("as in `dalirun classify cat.jpg`", "classify: no picture is named")
	}
	if names.List == userfile.Stdin && slices.Contains(names.Arguments, userfile.Stdin) {
		return nil, pipeline.Usagef("name the picture's file, or save the list in a file, as in --files-from list.txt",
			"%s and the picture - are both to come from standard input, which is read once", names.Written)
	}
	var listed []string
	if names.List != "" {
		var err error
		if listed, err = readList(ctx, files, names); err != nil {
			return nil, err
		}
	}
	slow := fmt.Errorf("the pictures were not found within %s: name fewer folders at a time", listWithin)
	ctx, cancel := context.WithTimeoutCause(ctx, listWithin, slow)
	defer cancel()
	return bounded.Call(ctx, func() ([]Picture, error) {
		var found []Picture
		for _, name := range names.Arguments {
			for _, match := range matches(name) {
				found = appendPictures(ctx, found, match)
			}
		}
		for _, name := range listed {
			found = appendPictures(ctx, found, name)
		}
		return found, context.Cause(ctx)
	})
}

// readList reads the names of a list. An empty line is none, and of what ends lines elsewhere nothing is part of a
// name.
func readList(ctx context.Context, files *userfile.Reader, names Names) ([]string, error) {
	data, err := files.Read(ctx, names.List, listBytes)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	end, text := "\x00", string(data)
	if !names.Null {
		end, text = "\n", strings.ReplaceAll(strings.TrimPrefix(text, "\ufeff"), "\r\n", "\n")
	}
	var listed []string
	for name := range strings.SplitSeq(text, end) {
		if name != "" {
			listed = append(listed, name)
		}
	}
	switch {
	case err != nil:
	case len(listed) == 0:
		err = pipeline.Usagef("name a file with one name a line, or each ended by NUL with --null", "it names no picture")
	case !names.Null && strings.Contains(text, "\x00"):
		err = pipeline.Usagef("read it with --null", "its names end with NUL")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", names.Written, userfile.AsUsage(err))
	}
	return listed, nil
}

// matches are the names that an argument stands for: itself, unless it is a pattern that something matches.
func matches(name string) []string {
	if name == userfile.Stdin || !strings.ContainsAny(name, `*?[{`) {
		return []string{name}
	}
	if _, err := os.Lstat(name); err == nil {
		return []string{name}
	}
	// Of a folder that cannot be read nothing matches, as in a shell.
	found, err := doublestar.FilepathGlob(name, doublestar.WithNoHidden(), doublestar.WithNoFollow())
	if strings.Contains(name, "**") { // what is in the folders that it matches, it matches too
		found = slices.DeleteFunc(found, isFolder)
	}
	if err != nil || len(found) == 0 {
		return []string{name}
	}
	slices.Sort(found)
	return found
}

func isFolder(name string) bool {
	about, err := os.Stat(name)
	return err == nil && about.IsDir()
}

// appendPictures appends the pictures of a folder, or a name that is of none.
func appendPictures(ctx context.Context, found []Picture, name string) []Picture {
	if name == userfile.Stdin || !isFolder(name) {
		return append(found, Picture{Name: name}) // who reads it says what is wrong with it
	}
	before := len(found)
	// With a separator behind it a link to a folder is followed.
	err := filepath.WalkDir(name+string(filepath.Separator), func(path string, entry fs.DirEntry, err error) error {
		hidden := path != name+string(filepath.Separator) && strings.HasPrefix(filepath.Base(path), ".")
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case hidden && entry != nil && entry.IsDir():
			return fs.SkipDir
		case hidden:
			return nil
		case err != nil:
			const hint = "check the name"
			err = fmt.Errorf("look for pictures in %s: %w", userfile.Shown(path), userfile.ReadFault(err, hint))
			found = append(found, Picture{filepath.Clean(path), err})
			return nil
		case picture.HasExtension(path) && mayBePicture(path, entry):
			found = append(found, Picture{Name: path})
		}
		return nil
	})
	if err == nil && len(found) == before {
		hint := "the names of its pictures end in one of " + strings.Join(picture.Extensions(), ", ") +
			"; other files are named themselves"
		found = append(found, Picture{name, pipeline.Usagef(hint, "%s: the folder holds no picture", userfile.Shown(name))})
	}
	return found
}

// mayBePicture says whether an entry of a folder is a file, or a link to one or to nothing. To read what is something
// else, such as a named pipe, may have no end.
func mayBePicture(path string, entry fs.DirEntry) bool {
	if entry.Type()&fs.ModeSymlink == 0 {
		return entry.Type().IsRegular()
	}
	about, err := os.Stat(path)
	return err != nil || about.Mode().IsRegular()
}
