package steps

import (
	"errors"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/internal/spelling"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// Forced are the steps that --force names, to run again although their results are stored: their IDs, or "all".
type Forced []string

// everyStep is what of [Forced] stands for every step.
const everyStep = "all"

// forcible are the steps whose results are stored.
func forcible() []pipeline.ID {
	return []pipeline.ID{
		IDWeights, IDExportONNX, IDCastONNX, IDBuildEngine, IDSerializeDALI, IDAssembleRepository, IDReference,
	}
}

// Building are the steps that build what is served, whatever is stored of it.
func Building() map[pipeline.ID]bool {
	return map[pipeline.ID]bool{
		IDExportONNX: true, IDCastONNX: true, IDBuildEngine: true, IDSerializeDALI: true, IDAssembleRepository: true,
	}
}

// Check refuses steps that there are not, and those that what was asked for excludes.
func (f Forced) Check(request target.Request) error {
	var known []string
	for _, id := range forcible() {
		known = append(known, string(id))
	}
	for _, id := range f {
		if id != everyStep && !slices.Contains(known, id) {
			hint := "the steps are " + strings.Join(known, ", ") + ", and all"
			if near := spelling.Nearest(id, known); near != "" {
				hint = near + "; " + hint
			}
			return pipeline.Usagef(hint, "%s: there is no step %q", request.Settings.Origin("force"), id)
		}
	}
	if request.Accel != string(target.CPU) {
		return nil
	}
	_, err := f.Unused(request, target.Target{Lane: target.CPU})
	return err
}

// Unused returns a warning for each forced step that a run of the target does not have, and an error for those that
// must not be dropped.
func (f Forced) Unused(request target.Request, t target.Target) (warnings []string, err error) {
	var errs []error
	list := For(t, Tools{}, lastStep(request.Command))
	for _, id := range f {
		if id == everyStep || slices.ContainsFunc(list, func(s pipeline.Step) bool { return string(s.ID()) == id }) {
			continue
		}
		u := target.UnusedFlag{Flag: "force", Why: "this run has no such step", Instead: "`dalirun plan` lists those of e2e"}
		if t.Lane == target.CPU && (id == string(IDCastONNX) || id == string(IDBuildEngine)) {
			u.ExcludedBy, u.Why = "accel", "the cpu lane has no such step"
		}
		warning, err := request.Settings.Judge(u, id)
		if warning != "" {
			warnings = append(warnings, warning)
		}
		errs = append(errs, err)
	}
	return warnings, errors.Join(errs...)
}

// IDs are the steps, as of [pipeline.Runner].
func (f Forced) IDs() map[pipeline.ID]bool {
	forced := map[pipeline.ID]bool{}
	for _, id := range f {
		if id != everyStep {
			forced[pipeline.ID(id)] = true
			continue
		}
		for _, every := range forcible() {
			forced[every] = true
		}
	}
	return forced
}

// lastStep is that of a command's run.
func lastStep(command string) pipeline.ID {
	switch command {
	case "pull":
		return IDWeights
	case "setup":
		return IDAssembleRepository
	case "serve":
		return IDServe
	default:
		return IDVerify
	}
}
