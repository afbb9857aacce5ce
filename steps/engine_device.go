package steps

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/pipeline"
)

// GPUProof is how it is known that an engine was built on the GPU that was asked for.
type GPUProof string

// The proofs. None is left where trtexec says neither, or nothing is known to compare it with.
const (
	// ProofUUID: trtexec took the GPU, or MIG instance, of a UUID that was asked for.
	ProofUUID GPUProof = "uuid"
	// ProofName: trtexec took a GPU of the model that was asked for; which of several is not known. The trtexec of TensorRT 8.0 to 8.4 says no
	// more (public logs); that of 10.6 says the UUID. Which one it says of a MIG instance, its own or the GPU's, was not seen.
	ProofName GPUProof = "name"
)

// gpuProofFact is the fact that engines which were kept without a proof of their GPU lack.
const gpuProofFact = "gpu proof"

// builtOn is what trtexec said of the GPU that it took, the first in its container.
type builtOn struct{ Name, UUID string }

func (b builtOn) String() string { return strings.Trim(b.Name+", "+b.UUID, ", ") }

func (b builtOn) took() string {
	if b == (builtOn{}) {
		return "trtexec did not say which GPU it took"
	}
	return "trtexec took " + b.String()
}

// deviceLines are those of the section "Device Information".
type deviceLines struct{ name, uuid *regexp.Regexp }

func newDeviceLines() deviceLines {
	return deviceLines{
		name: regexp.MustCompile(`\] Selected Device: (.*\S)`),
		uuid: regexp.MustCompile(`\] Selected Device UUID: (\S+)`),
	}
}

// read keeps what is said first: a second trtexec, which reads the plan's version, says it again.
func (b *builtOn) read(lines deviceLines, line string) {
	if m := lines.name.FindStringSubmatch(line); m != nil {
		b.Name = cmp.Or(b.Name, m[1])
	}
	if m := lines.uuid.FindStringSubmatch(line); m != nil {
		b.UUID = cmp.Or(b.UUID, m[1])
	}
}

// check holds the GPU that trtexec took against those that were asked for: an engine runs only on the model that it was built on, and whoever
// named a GPU may have left others to others. There is no proof, and no error, where nothing that is known of the one is said of the other.
func (b builtOn) check(o Options) (GPUProof, error) {
	if b == (builtOn{}) && (o.Device.Name != "" || len(o.GPUUUIDs) > 0) { // every trtexec from TensorRT 8.0 on says it
		return "", pipeline.Faultf(pipeline.ContainerFailed, "its log has no line \"Selected Device\"; if --server-image names an image of your own, try NVIDIA's",
			"%s, so that the engine may be for another than --gpus %q", b.took(), o.GPUs)
	}
	var proof GPUProof
	if b.Name != "" && o.Device.Name != "" {
		if modelName(b.Name) != modelName(o.Device.Name) {
			return "", b.wrong(o)
		}
		proof = ProofName
	}
	if b.UUID == "" || len(o.GPUUUIDs) == 0 {
		return proof, nil
	}
	isGPU := func(uuid string) bool { return !strings.HasPrefix(uuid, "MIG-") }
	switch {
	// Of a GPU on another host no more may be known than the first letters that a user wrote.
	case slices.ContainsFunc(o.GPUUUIDs, func(asked string) bool { return strings.HasPrefix(bare(b.UUID), bare(asked)) }):
		return ProofUUID, nil
	case !slices.ContainsFunc(o.GPUUUIDs, isGPU): // what trtexec says of an instance may be the GPU's UUID
		return proof, nil
	default:
		return "", b.wrong(o)
	}
}

func (b builtOn) wrong(o Options) error {
	return pipeline.Faultf(pipeline.Environment, otherGPUsHint, "the engine was built on another GPU than was asked for: --gpus %q is %s, and %s",
		o.GPUs, builtOn{o.Device.Name, strings.Join(o.GPUUUIDs, ", ")}, b.took())
}

// modelName is a GPU's name without what depends on who says it: the driver's libraries write NVIDIA before it from R470 on, also those that an image
// brings for an older driver, and a MIG instance is named after its GPU and its profile.
func modelName(name string) string {
	name, _, _ = strings.Cut(strings.TrimPrefix(name, "NVIDIA "), " MIG ")
	return name
}

// bare is a UUID without the word before it: trtexec writes GPU before every one.
func bare(uuid string) string {
	for _, kind := range []string{"MIG-", "GPU-"} {
		uuid = strings.TrimPrefix(uuid, kind)
	}
	return strings.ToLower(uuid)
}
