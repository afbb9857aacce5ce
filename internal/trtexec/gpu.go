package trtexec

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/pipeline"
)

// GPUProof is the evidence that an engine was built on a requested GPU.
type GPUProof string

// The proofs. A proof is empty where trtexec prints neither name nor UUID, or where neither is known of the requested
// GPUs.
const (
	// ProofUUID: trtexec selected the GPU, or MIG instance, of a requested UUID.
	ProofUUID GPUProof = "uuid"
	// ProofName: trtexec selected a GPU of the requested model; which of several is not known. The trtexec of TensorRT
	// 8.0 to 8.4 prints no more (public logs); that of 10.6 prints the UUID. Whether it prints the UUID of a MIG
	// instance or of the instance's GPU was never seen.
	ProofName GPUProof = "name"
)

// RequestedGPU describes the GPUs that a user asked for. The engine is to be built on one of them.
type RequestedGPU struct {
	Flag     string   // the value of --gpus
	Model    string   // the name of their model; empty where it is not known
	Location string   // where the GPUs are, in words, if their model is not known
	Compute  string   // compute capability, such as 9.0; empty where it is not known
	UUIDs    []string // of the GPUs or MIG instances; nil where they are not known
}

// Name is the GPU that an engine is for: its model or, where that is not known, its location.
func (g RequestedGPU) Name() string { return cmp.Or(g.Model, g.Location) }

// SelectedGPU is the GPU on which trtexec built, as it prints it in "Device Information": the first in its container. A
// field that trtexec does not print is empty.
type SelectedGPU struct{ Name, UUID string }

func (g SelectedGPU) String() string {
	if g == (SelectedGPU{}) {
		return "trtexec did not say which GPU it took"
	}
	return "trtexec took " + nameAndUUIDs(g.Name, g.UUID)
}

func nameAndUUIDs(name string, uuids ...string) string {
	return strings.Trim(name+", "+strings.Join(uuids, ", "), ", ")
}

// gpuPatterns are the lines of the section "Device Information".
type gpuPatterns struct{ name, uuid *regexp.Regexp }

func newGPUPatterns() gpuPatterns {
	return gpuPatterns{
		name: regexp.MustCompile(`\] Selected Device: (.*\S)`),
		uuid: regexp.MustCompile(`\] Selected Device UUID: (\S+)`),
	}
}

// read keeps what is printed first: a second trtexec, which reads the plan's version, prints it again.
func (g *SelectedGPU) read(patterns gpuPatterns, line string) {
	if m := patterns.name.FindStringSubmatch(line); m != nil {
		g.Name = cmp.Or(g.Name, m[1])
	}
	if m := patterns.uuid.FindStringSubmatch(line); m != nil {
		g.UUID = cmp.Or(g.UUID, m[1])
	}
}

// OtherGPUError is the error for an engine that was built on another GPU than the requested one.
type OtherGPUError struct {
	Requested RequestedGPU
	Selected  SelectedGPU
}

func (e *OtherGPUError) Error() string {
	return fmt.Sprintf("the engine was built on another GPU than was asked for: --gpus %q is %s, and %s",
		e.Requested.Flag, nameAndUUIDs(e.Requested.Model, e.Requested.UUIDs...), e.Selected)
}

// Check compares the GPU that trtexec selected with the requested ones: an engine runs only on the model that it was
// built on, and a user who names a GPU may have left the others to someone else. Another GPU is an [OtherGPUError].
// Where trtexec prints no GPU, although model or UUID of the requested ones are known, the error is a [pipeline.Fault].
// Proof and error are both empty where trtexec prints only what is not known of the requested GPUs.
func (g SelectedGPU) Check(requested RequestedGPU) (GPUProof, error) {
	// every trtexec from TensorRT 8.0 on prints it
	if g == (SelectedGPU{}) && (requested.Model != "" || len(requested.UUIDs) > 0) {
		return "", pipeline.Faultf(pipeline.ContainerFailed,
			"its log has no line \"Selected Device\"; if --server-image names an image of your own, try NVIDIA's",
			"%s, so that the engine may be for another than --gpus %q", g, requested.Flag)
	}
	var proof GPUProof
	if g.Name != "" && requested.Model != "" {
		if modelName(g.Name) != modelName(requested.Model) {
			return "", &OtherGPUError{requested, g}
		}
		proof = ProofName
	}
	if g.UUID == "" || len(requested.UUIDs) == 0 {
		return proof, nil
	}
	isGPU := func(uuid string) bool { return !strings.HasPrefix(uuid, "MIG-") }
	switch {
	// Of a GPU on another host only the first letters of its UUID may be known: those that a user wrote.
	case slices.ContainsFunc(requested.UUIDs,
		func(uuid string) bool { return strings.HasPrefix(bareUUID(g.UUID), bareUUID(uuid)) }):
		return ProofUUID, nil
	case !slices.ContainsFunc(requested.UUIDs, isGPU): // for a MIG instance, trtexec may print the GPU's UUID
		return proof, nil
	default:
		return "", &OtherGPUError{requested, g}
	}
}

// modelName is a GPU's name without the parts that depend on the program that prints it: driver libraries from R470 on
// begin it with NVIDIA, as do the newer libraries that an image brings for an older driver, and a MIG instance's name
// ends with its profile.
func modelName(name string) string {
	name, _, _ = strings.Cut(strings.TrimPrefix(name, "NVIDIA "), " MIG ")
	return name
}

// bareUUID is a UUID without the word before it: trtexec writes GPU before every one.
func bareUUID(uuid string) string {
	for _, kind := range []string{"MIG-", "GPU-"} {
		uuid = strings.TrimPrefix(uuid, kind)
	}
	return strings.ToLower(uuid)
}
