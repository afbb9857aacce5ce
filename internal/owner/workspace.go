package owner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/dalirun/dalirun/internal/fsync"
)

// DefaultWorkspace is the name of a workspace's folder in a project, unless another is named.
const DefaultWorkspace = ".dalirun"

const (
	// workspaceTag is the file that marks a folder as a workspace.
	workspaceTag  = "WORKSPACE.TAG"
	workspaceText = "This folder is a workspace of dalirun: the logs of runs, and which server is its own. It may be " +
		"deleted while no dalirun runs.\n"
)

// ErrNotWorkspace says that a folder holds files that are not dalirun's.
var ErrNotWorkspace = errors.New("is not empty, and no workspace of dalirun")

// CheckWorkspace returns nil for a folder that is a workspace, or can become one because it is empty or does not exist.
// Any other folder is an [ErrNotWorkspace]: runs would write their files among the user's, and delete old logs. It
// changes nothing.
func CheckWorkspace(dir string) error {
	if filepath.Base(dir) == DefaultWorkspace {
		return nil // the name is dalirun's alone
	}
	below, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if slices.ContainsFunc(below, func(e fs.DirEntry) bool { return e.Name() == workspaceTag }) {
		return nil
	}
	for _, entry := range below { // older versions wrote no tag
		switch name := entry.Name(); name {
		case "server.json", "serve.lock":
		case "model_repository": // a link; a folder of that name may be the user's, as Triton's own usual one is
			if entry.Type() != fs.ModeSymlink {
				return fmt.Errorf("%s %w: it holds %s", dir, ErrNotWorkspace, name)
			}
		case "runs":
			runs, err := os.ReadDir(RunsDir(dir))
			if err != nil {
				return err
			}
			for _, run := range runs {
				if !looksLikeRun(dir, run.Name()) {
					return fmt.Errorf("%s %w: it holds runs/%s", dir, ErrNotWorkspace, run.Name())
				}
			}
		default:
			return fmt.Errorf("%s %w: it holds %s", dir, ErrNotWorkspace, name)
		}
	}
	return nil
}

var timeOfRun = regexp.MustCompile(`^\d{8}T\d{6}Z-`)

// looksLikeRun reports whether a folder in runs is that of a run of dalirun, and not another program's.
func looksLikeRun(workspace, name string) bool {
	_, err := os.Lstat(lockPath(workspace, name))
	return err == nil || timeOfRun.MatchString(name)
}

// MakeWorkspace makes the folder of a workspace and marks it, so that [CheckWorkspace] accepts it whatever it holds
// later.
func MakeWorkspace(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a folder of the user's project
		return err
	}
	tag := filepath.Join(dir, workspaceTag)
	if _, err := os.Lstat(tag); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(tag, []byte(workspaceText), 0o644); err != nil { //nolint:gosec // anybody may know
		return errors.Join(err, os.Remove(tag)) // on a full disk an empty one is left
	}
	return fsync.Dir(dir)
}
