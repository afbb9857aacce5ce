package owner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/dalirun/dalirun/internal/fsync"
	"github.com/dalirun/dalirun/pipeline"
)

// ErrNoServer says that a workspace has no server file.
var ErrNoServer = errors.New("no server of this workspace")

// ServerFile describes the server of a workspace. It is written once a server that is to outlive its run is ready. By
// it, [Verdict] returns Kept for the server's container.
type ServerFile struct {
	Container string `json:"container"` // ID
	Name      string `json:"name"`      // of the container
	Run       string `json:"run"`       // ID of the run that started it
	Host      string `json:"host"`      // of the run: Identity.Host
	GRPC      string `json:"grpc"`      // host:port
	HTTP      string `json:"http"`      // host:port
	Metrics   string `json:"metrics"`   // host:port
	// endpoint of the container engine, if the addresses are valid on its host alone
	Engine string `json:"engine,omitempty"`
	// what identifies its image: the digest; of a local one a hash of its build and of its packages' versions
	Image string `json:"image,omitempty"`
	GPUs  string `json:"gpus,omitempty"` // model of its GPUs, with their number; gpu lane
	// of its GPUs or MIG instances, if they are those of the host, and known; gpu lane
	GPUUUIDs []string `json:"gpu_uuids,omitempty"`
	Driver   string   `json:"driver,omitempty"` // version of NVIDIA's driver; gpu lane
	Served
	Repository string    `json:"repository,omitempty"` // in the cache, whose files it serves
	Arguments  []string  `json:"arguments,omitempty"`  // of its tritonserver, besides the usual ones
	Models     []string  `json:"models"`               // in the order in which they load: what clients ask is the last one
	Started    time.Time `json:"started"`
	Ended      time.Time `json:"ended,omitzero"` // zero while it runs, and if nobody knows
	// Reloading are the weights by which reloads have begun to replace what the server serves, without an end: they were
	// killed, or are at work. The server may answer from any of them.
	Reloading []string `json:"reloading,omitempty"`
	// arguments of dalirun that start it again, from another folder
	Command []string `json:"command,omitempty"`
}

// Served says what answers the requests that a server gets. What is empty was not noted, as by an older dalirun.
type Served struct {
	Lane      string `json:"lane,omitempty"`         // gpu or cpu
	Source    string `json:"image_source,omitempty"` // image source: ngc or local
	Release   string `json:"release,omitempty"`      // NGC release of the images, if they have one
	Precision string `json:"precision,omitempty"`    // fp16 or fp32
	// Weights are as on the reports: "random:7", "pretrained IMAGENET1K_V2", or a path.
	Weights string `json:"weights,omitempty"`
	// LabelsMeanNothing says that the classes in an answer have nothing to do with the picture, since the weights are
	// seeded. It is nil if the weights are not known.
	LabelsMeanNothing *bool `json:"labels_mean_nothing,omitempty"`
}

// Seeded reports whether the weights are known to be seeded ones.
func (s Served) Seeded() bool { return s.LabelsMeanNothing != nil && *s.LabelsMeanNothing }

// Ensemble is the model that clients ask; empty if it is not known.
func (s ServerFile) Ensemble() string {
	if len(s.Models) == 0 {
		return ""
	}
	return s.Models[len(s.Models)-1]
}

// ServerPath returns the path of a workspace's server file.
func ServerPath(workspace string) string { return filepath.Join(workspace, "server.json") }

// WriteServer replaces the server file of a workspace. At any moment, and after a crash, there is the old file or the
// new one.
func WriteServer(workspace string, s ServerFile) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write the server file: %w", err)
		}
	}()
	if err := s.check(); err != nil {
		return err
	}
	return replaceFile(s, filepath.Join(RunDir(workspace, s.Run), "server.json"), ServerPath(workspace))
}

// NoteServer writes a server file into the folder of the server's run, for a server that ends with the run, and for one
// that has ended. Only reports read it: [Verdict] does not.
func NoteServer(workspace string, s ServerFile) error {
	err := s.check()
	if err == nil {
		path := notePath(workspace, s.Run)
		err = replaceFile(s, path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("note the server: %w", err)
	}
	return nil
}

// UpdateServer replaces what is recorded of a server that goes on running, in the file that has it.
func UpdateServer(workspace string, s ServerFile) error {
	file, err := ReadServer(workspace)
	if err == nil && file.Run == s.Run {
		return WriteServer(workspace, s)
	}
	if err != nil && !errors.Is(err, ErrNoServer) {
		return err
	}
	return NoteServer(workspace, s)
}

func notePath(workspace, run string) string {
	return filepath.Join(RunDir(workspace, run), "served.json")
}

// NoteStop notes for the `dalirun serve` that attends the server of a run that somebody stops it on purpose. It does
// nothing for a run whose folder is gone.
func NoteStop(workspace, run string) error {
	if !isRunID(run) {
		return nil
	}
	err := os.WriteFile(stopPath(workspace, run), nil, 0o600)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("note that the server is stopped: %w", err)
	}
	return nil
}

// StopNoted reports whether [NoteStop] was called for a run.
func StopNoted(workspace, run string) bool {
	_, err := os.Stat(stopPath(workspace, run))
	return isRunID(run) && err == nil
}

func stopPath(workspace, run string) string { return filepath.Join(RunDir(workspace, run), "stopped") }

// replaceFile writes s as JSON to a new file beside temporary, in the folder of a run, and renames it to path. A file
// that a killed process leaves there is deleted with the run's logs.
func replaceFile(s any, temporary, path string) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(temporary), 0o700); err != nil {
		return err
	}
	// Another process may write the same file, as a reload does beside the serve that attends the server.
	f, err := os.CreateTemp(filepath.Dir(temporary), filepath.Base(temporary)+".*")
	if err != nil {
		return err
	}
	return fsync.Replace(path, f, append(data, '\n'))
}

// ServerOf returns what is known of the server that a run of a workspace started: the server file if it is of that run,
// else the file of [NoteServer]; or [ErrNoServer], as for a server that is not ready yet.
func ServerOf(workspace, run string) (ServerFile, error) {
	if !isRunID(run) {
		return ServerFile{}, ErrNoServer
	}
	s, err := ReadServer(workspace)
	if err == nil && s.Run == run {
		return s, nil
	}
	if err != nil && !errors.Is(err, ErrNoServer) {
		return ServerFile{}, err
	}
	return readServer(workspace, notePath(workspace, run))
}

// ReadServer returns the server file of a workspace, or [ErrNoServer]. A file that says nothing is a fault of
// [pipeline.Environment].
func ReadServer(workspace string) (ServerFile, error) {
	return readServer(workspace, ServerPath(workspace))
}

// readServer reads a server file at path that is about a server of a workspace.
func readServer(workspace, path string) (ServerFile, error) {
	info, err := os.Lstat(path)
	if err == nil && !info.Mode().IsRegular() { // and may be one whose opening never ends
		return ServerFile{}, damaged(workspace, fmt.Errorf("%s is not a file", path))
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ServerFile{}, ErrNoServer
	case err != nil:
		return ServerFile{}, fmt.Errorf("read the server file: %w", err)
	}
	var s ServerFile
	if err = json.Unmarshal(data, &s); err == nil {
		err = s.check()
	}
	if err != nil {
		return ServerFile{}, damaged(workspace, fmt.Errorf("%s is damaged: %w", path, err))
	}
	return s, nil
}

// damaged is the fault of a server file that says nothing. A stop finds the workspace's servers by their labels, and so
// needs no such file.
func damaged(workspace string, err error) error {
	hint := "run `" + StopCommand(workspace) + "`, also if no server runs, and serve again"
	return pipeline.Faultf(pipeline.Environment, hint, "%w", err)
}

// RemoveServer deletes the server file of a workspace, if there is one, or whatever else is in its place: also a folder
// with all that is in it, since the name is dalirun's.
func RemoveServer(workspace string) error {
	path := ServerPath(workspace)
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = os.RemoveAll(path) // it follows no link
	}
	if err != nil {
		return fmt.Errorf("remove the server file: %w", err)
	}
	return fsync.Dir(workspace)
}

func (s ServerFile) check() error {
	switch {
	case s.Container == "":
		return errors.New("it names no container")
	case !isRunID(s.Run):
		return fmt.Errorf("its run %q is none", s.Run)
	}
	return nil
}
