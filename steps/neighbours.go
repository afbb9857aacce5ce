package steps

import (
	"context"
	"slices"

	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/pipeline"
)

// neighbours are the programs beside which an engine is built. trtexec takes the kernels that were fastest: an engine
// that was built beside others answers right, but what was measured for it must not decide later ones.
type neighbours struct {
	step   *BuildEngine
	before []host.Process
	known  bool // it is known who was there before
}

const notKept = "; the engine is used, but the times of its kernels are not kept: the next build times them anew"

// lookAround finds out who computes on the GPUs before a build, and warns of them.
func (s *BuildEngine) lookAround(ctx context.Context, w *pipeline.Work) neighbours {
	n := neighbours{step: s}
	if s.neighbours == nil {
		return n
	}
	n.before, n.known = n.ask(ctx, w)
	if len(n.before) > 0 {
		w.Emit(pipeline.Warning{Text: "others compute where the engine is built: " + n.list(n.before) + notKept})
	}
	return n
}

// none reports whether nobody computed on the GPUs beside a build that has just ended, as far as that is known, and
// warns of who came meanwhile.
func (n neighbours) none(ctx context.Context, w *pipeline.Work) bool {
	if !n.known {
		return true // it was said that nobody knows, or nobody can
	}
	after, _ := n.ask(ctx, w)
	came := slices.DeleteFunc(after, func(p host.Process) bool {
		return slices.ContainsFunc(n.before, func(b host.Process) bool { return b.GPU == p.GPU && b.PID == p.PID })
	})
	if len(came) > 0 {
		w.Emit(pipeline.Warning{Text: "others came to compute where the engine was built: " + n.list(came) + notKept})
	}
	return len(n.before) == 0 && len(came) == 0
}

// ask returns who computes on the GPUs, and whether that is known.
func (n neighbours) ask(ctx context.Context, w *pipeline.Work) (others []host.Process, known bool) {
	others, err := n.step.neighbours(ctx)
	if err != nil && ctx.Err() == nil {
		w.Emit(pipeline.Warning{Text: "who else computes on the GPU is not known: " + err.Error()})
	}
	return others, err == nil
}

// list names programs with their memory and GPU.
func (n neighbours) list(others []host.Process) string {
	names := make([]string, len(others))
	for i, p := range others {
		names[i] = printable.Line(p.String()) // they named themselves
		if j := slices.IndexFunc(n.step.chosen, func(g host.GPU) bool { return g.UUID == p.GPU }); j >= 0 {
			names[i] += " on " + n.step.chosen[j].Title()
		}
		if p.Hidden {
			names[i] += ", which may be of this workspace's own server"
		}
	}
	return printable.List(names)
}
