package classify

import (
	"errors"
	"strings"

	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/result"
	"github.com/dalirun/dalirun/internal/serving"
)

// Record is what became of one picture: its answer, or why there is none.
type Record struct {
	Image string `json:"image"`
	// ImageBytes are the bytes of a name that is no text. A Writer fills that in.
	ImageBytes   []byte         `json:"image_base64,omitempty"`
	Model        string         `json:"model"`
	Milliseconds float64        `json:"milliseconds,omitempty"` // of the request, there and back
	Classes      []result.Class `json:"classes,omitempty"`
	// Why there are no classes. Whoever has exit codes fills that in.
	Error      string `json:"error,omitempty"`
	ErrorClass string `json:"error_class,omitempty"`
	Hint       string `json:"hint,omitempty"` // what to do about Error
	Source
}

// Source is where an answer comes from. Of a server that is not the workspace's the address alone is known.
type Source struct {
	Server string `json:"server,omitempty"`
	owner.Served
	Warnings []string `json:"warnings,omitempty"` // what that means for the answers
}

// Lines say for people what is known of the workspace's server, but for the warnings; there are none of another one.
func (s Source) Lines() []string {
	if s.Lane == "" {
		return nil
	}
	images := strings.TrimSuffix(s.Source+" images "+s.Release, " ")
	return []string{strings.Join([]string{s.Lane + " lane", images, s.Precision, "weights " + s.Weights}, ", ")}
}

// sourceOf is what the workspace's files say of the server that a run started.
func sourceOf(workspace, run string) Source {
	file, err := owner.ServerOf(workspace, run)
	if errors.Is(err, owner.ErrNoServer) {
		return Source{}
	}
	if err != nil {
		return Source{Warnings: []string{"what the server serves is not known: " + err.Error()}}
	}
	s := Source{Served: serving.ServedBy(file)}
	if s.Seeded() {
		s.Warnings = append(s.Warnings, "the weights are seeded random ones: "+serving.LabelsMeanNothing)
	}
	if built, err := owner.ReadBuilt(workspace); err == nil && built.ServesAnother(file) {
		s.Warnings = append(s.Warnings, "the server does not serve what was last built in its workspace: "+
			"`"+serving.TakeCommand(workspace, file, built)+"` has it do so")
	}
	return s
}
