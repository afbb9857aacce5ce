package trtexec

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/pipeline"
)

// GPUProof is how it is known that an engine was built on the GPU that was asked for.
type GPUProof string

// The proofs. None is left where trtexec prints neither, or nothing is known to compare it with.
const (
	// ProofUUID: trtexec took the GPU, or MIG instance, of a UUID that was asked for.
	ProofUUID GPUProof = "uuid"
	// ProofName: trtexec took a GPU of the model that was asked for; which of several is not known. The trtexec of TensorRT 8.0 to 8.4 prints no
	// more (public logs); that of 10.6 prints the UUID. Which one it prints of a MIG instance, its own or the GPU's, was not seen.
	ProofName GPUProof = "name"
)

// AskedGPU is what is known of the GPUs of which an engine is to be built on one.
type AskedGPU struct {
	Flag    string   // the value of --gpus
	Model   string   // the name of their model; empty where it is not known
	Where   string   // which they are, in words, where their model is not known
	Compute string   // compute capability, such as 9.0; empty where it is not known
	UUIDs   []string // of the GPUs or MIG instances; nil where they are not known
}

// Name is what an engine is for: the model, or which GPU it is where the model is not known.
func (g AskedGPU) Name() string { return cmp.Or(g.Model, g.Where) }

// TakenGPU is the GPU that trtexec took, the first in its container, as it prints it. What it does not print is empty.
type TakenGPU struct{ Name, UUID string }

func (g TakenGPU) String() string {
	if g == (TakenGPU{}) {
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
func (g *TakenGPU) read(patterns gpuPatterns, line string) {
	if m := patterns.name.FindStringSubmatch(line); m != nil {
		g.Name = cmp.Or(g.Name, m[1])
	}
	if m := patterns.uuid.FindStringSubmatch(line); m != nil {
		g.UUID = cmp.Or(g.UUID, m[1])
	}
}

// OtherGPUError is of an engine that was built on another GPU than was asked for.
type OtherGPUError struct {
	Asked AskedGPU
	Taken TakenGPU
}

func (e *OtherGPUError) Error() string {
	return fmt.Sprintf("the engine was built on another GPU than was asked for: --gpus %q is %s, and %s",
		e.Asked.Flag, nameAndUUIDs(e.Asked.Model, e.Asked.UUIDs...), e.Taken)
}

// Check compares the GPU that trtexec took with those that were asked for: an engine runs only on the model that it was built on, and a user who
// names a GPU may have left the others to someone else. There is no proof, and no error, where nothing that trtexec prints is known of those asked
// for. Another GPU is an [OtherGPUError]. A trtexec that prints no GPU is a fault where anything is known of those asked for.
func (g TakenGPU) Check(asked AskedGPU) (GPUProof, error) {
	if g == (TakenGPU{}) && (asked.Model != "" || len(asked.UUIDs) > 0) { // every trtexec from TensorRT 8.0 on prints it
		return "", pipeline.Faultf(pipeline.ContainerFailed, "its log has no line \"Selected Device\"; if --server-image names an image of your own, try NVIDIA's",
			"%s, so that the engine may be for another than --gpus %q", g, asked.Flag)
	}
	var proof GPUProof
	if g.Name != "" && asked.Model != "" {
		if modelName(g.Name) != modelName(asked.Model) {
			return "", &OtherGPUError{asked, g}
		}
		proof = ProofName
	}
	if g.UUID == "" || len(asked.UUIDs) == 0 {
		return proof, nil
	}
	isGPU := func(uuid string) bool { return !strings.HasPrefix(uuid, "MIG-") }
	switch {
	// Of a GPU on another host no more may be known than the first letters that a user wrote.
	case slices.ContainsFunc(asked.UUIDs, func(uuid string) bool { return strings.HasPrefix(bareUUID(g.UUID), bareUUID(uuid)) }):
		return ProofUUID, nil
	case !slices.ContainsFunc(asked.UUIDs, isGPU): // what trtexec prints of an instance may be the GPU's UUID
		return proof, nil
	default:
		return "", &OtherGPUError{asked, g}
	}
}

// modelName is a GPU's name without what depends on who says it: the driver's libraries write NVIDIA before it from R470 on, also those that an image
// brings for an older driver, and a MIG instance is named after its GPU and its profile.
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
