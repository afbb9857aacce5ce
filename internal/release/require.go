package release

import (
	"fmt"
	"strings"
)

// requireCUDA is the variable of an image by which NVIDIA's container runtime decides whether to start a container of
// it on a GPU. Its value is as in "cuda>=12.8 brand=unknown,driver>=470,driver<471": a space is an or, a comma an and;
// the properties are cuda, driver, arch and brand. Source: the container toolkit's documentation of NVIDIA_REQUIRE_*
// (docker-specialized), and libnvidia-container's src/cli/dsl.c, which evaluates it.
const requireCUDA = "NVIDIA_REQUIRE_CUDA"

// requirement holds what an image asks of the driver against the host: a doubt, since NVIDIA's container toolkit checks
// it in its legacy mode and not where it makes CDI devices by itself (NVIDIA/nvidia-container-toolkit#1470), which the
// container engine does not tell. That a clause is met only by some brands of GPUs leaves a doubt: the brand is not
// asked for.
func (r Release) requirement(where Where, image Image, h Host) []Reason {
	_, disabled := image.Env["NVIDIA_DISABLE_REQUIRE"]
	if disabled || known(h.CUDA).IsZero() || strings.TrimSpace(image.Env[requireCUDA]) == "" {
		return nil
	}
	first, v := "", unmet
	for clause := range strings.FieldsSeq(image.Env[requireCUDA]) {
		if first == "" {
			first = clause
		}
		v = min(v, h.clause(clause))
	}
	text := fmt.Sprintf("its %s image asks for a driver with %s (%s), and the host's has CUDA %s", where, first,
		requireCUDA, h.CUDA)
	switch v {
	case unmet:
		return []Reason{{r.Tag, Requirement, text + ": container runtimes that check it refuse to start it"}}
	case doubtful:
		return []Reason{{r.Tag, NotConfirmed, text + ": the container runtime starts it on some brands of GPUs alone"}}
	default:
		return nil
	}
}

// clause is as well met as its worst condition.
func (h Host) clause(clause string) verdict {
	worst := met
	for condition := range strings.SplitSeq(clause, ",") {
		if condition != "" {
			worst = max(worst, h.condition(condition))
		}
	}
	return worst
}

// condition judges one, as in driver>=470. What is not known, or not understood, is doubtful.
func (h Host) condition(condition string) verdict {
	i := strings.IndexAny(condition, "<>=!")
	if i < 0 {
		return doubtful
	}
	var actual Version
	switch condition[:i] {
	case "cuda":
		actual = known(h.CUDA)
	case "driver":
		actual = known(h.Driver)
	case "arch":
		actual, _ = h.lowestCompute()
	}
	operator := condition[i : len(condition)-len(strings.TrimLeft(condition[i:], "<>=!"))]
	want := known(condition[i+len(operator):])
	if actual.IsZero() || want.IsZero() {
		return doubtful
	}
	is := actual.Compare(want)
	holds, ok := map[string]bool{
		">=": is >= 0, ">": is > 0, "<=": is <= 0, "<": is < 0, "=": is == 0,
		"!=": is != 0,
	}[operator]
	switch {
	case !ok:
		return doubtful
	case holds:
		return met
	default:
		return unmet
	}
}
