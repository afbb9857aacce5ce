package trtexec_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/trtexec"
	"github.com/dalirun/dalirun/pipeline"
)

// TestTakenGPU checks which GPU is one that was asked for, by what trtexec prints of it, and how that is known.
func TestTakenGPU(t *testing.T) {
	t.Parallel()
	const (
		h100   = "NVIDIA H100 80GB HBM3"
		name   = "[I] Selected Device: " + h100 + "\n[I] Selected Device ID: 0\n"
		a, b   = "GPU-aaaaaaaa-0000-0000-0000-000000000000", "GPU-bbbbbbbb-0000-0000-0000-000000000000"
		mig    = "MIG-11111111-0000-0000-0000-000000000000"
		isA    = name + "[I] Selected Device UUID: " + a
		isMIG  = "[I] Selected Device: NVIDIA H100 80GB HBM3 MIG 1g.10gb\n[I] Selected Device UUID: GPU-11111111-0000-0000-0000-000000000000"
		nobody = "-" // in place of the H100: the model is not known
	)
	tests := map[string]struct {
		log   string
		asked []string
		model string // in place of the H100
		proof trtexec.GPUProof
		other string // what trtexec took, where it is another
	}{
		"asked for":                  {log: isA, asked: []string{a}, proof: trtexec.ProofUUID},
		"one of those asked for":     {log: isA, asked: []string{b, a}, proof: trtexec.ProofUUID},
		"another of the model":       {log: isA, asked: []string{b}, other: "NVIDIA H100 80GB HBM3, " + a},
		"another model":              {log: "[I] Selected Device: NVIDIA L4\n[I] Selected Device UUID: " + a, asked: []string{a}, other: "NVIDIA L4, " + a},
		"another model, no UUID":     {log: "[I] Selected Device: Tesla T4", asked: []string{a}, other: "Tesla T4"},
		"a name that begins so":      {log: "[I] Selected Device: NVIDIA H100 80GB HBM3e", asked: []string{a}, other: "NVIDIA H100 80GB HBM3e"},
		"no UUID":                    {log: name, asked: []string{a}, proof: trtexec.ProofName},
		"older library's name":       {log: "[I] Selected Device: H100 80GB HBM3", asked: []string{a}, proof: trtexec.ProofName},
		"UUIDs are not known":        {log: isA, proof: trtexec.ProofName},
		"model is not known":         {log: isA, asked: []string{a}, model: nobody, proof: trtexec.ProofUUID},
		"model and UUID as written":  {log: isA, asked: []string{"GPU-aaaaaaaa"}, model: nobody, proof: trtexec.ProofUUID},
		"model is not known, other":  {log: isA, asked: []string{b}, model: nobody, other: "NVIDIA H100 80GB HBM3, " + a},
		"nothing is known":           {log: isA, model: nobody},
		"MIG, its UUID":              {log: isMIG, asked: []string{mig}, model: "NVIDIA H100 80GB HBM3 MIG 1g.10gb", proof: trtexec.ProofUUID},
		"MIG, the GPU's UUID":        {log: isA, asked: []string{mig}, model: "NVIDIA H100 80GB HBM3 MIG 1g.10gb", proof: trtexec.ProofName},
		"MIG of another model":       {log: isMIG, asked: []string{mig}, model: "NVIDIA A100-SXM4-80GB MIG 1g.10gb", other: "NVIDIA H100 80GB HBM3 MIG 1g.10gb, GPU-1111"},
		"MIG and a GPU, another":     {log: isA, asked: []string{mig, b}, other: "NVIDIA H100 80GB HBM3, " + a},
		"MIG of an unknown model":    {log: isA, asked: []string{mig}, model: nobody},
		"only a UUID is known":       {log: name, asked: []string{a}, model: nobody},
		"neither says anything":      {log: "", model: nobody},
		"a second one says another":  {log: isA + "\n[I] Selected Device UUID: " + b, asked: []string{a}, proof: trtexec.ProofUUID},
		"only the list says another": {log: "[I] Available Devices: \n[I]   Device 0: \"NVIDIA L4\" UUID: " + b + "\n" + isA, asked: []string{a}, proof: trtexec.ProofUUID},
	}
	for test, tt := range tests {
		t.Run(test, func(t *testing.T) {
			t.Parallel()
			asked := trtexec.AskedGPU{Flag: "device=0", Model: h100, UUIDs: tt.asked}
			switch tt.model {
			case "":
			case nobody:
				asked.Model, asked.Where = "", "GPU 0 at tcp://far:2375"
			default:
				asked.Model = tt.model
			}
			_, facts := readLog(tt.log)
			proof, err := facts.GPU.Check(asked)
			if proof != tt.proof {
				t.Errorf("proven by %q, want %q", proof, tt.proof)
			}
			if tt.other == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			other, ok := errors.AsType[*trtexec.OtherGPUError](err)
			if !ok || other.Taken != facts.GPU {
				t.Fatalf("got %v", err)
			}
			for _, want := range []string{
				`the engine was built on another GPU than was asked for: --gpus "device=0" is ` + asked.Model,
				strings.Join(tt.asked, ", ") + ", and trtexec took " + tt.other,
			} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, which lacks %q", err, want)
				}
			}
		})
	}
}

// TestUnknownTakenGPU checks that a trtexec that prints no GPU is refused where anything is known of those asked for.
func TestUnknownTakenGPU(t *testing.T) {
	t.Parallel()
	for name, asked := range map[string]trtexec.AskedGPU{
		"model and UUID": {Flag: "all", Model: "Tesla T4", UUIDs: []string{"GPU-a"}},
		"the model":      {Flag: "all", Model: "Tesla T4"},
		"the UUID":       {Flag: "all", Where: "GPU-a at tcp://far:2375", UUIDs: []string{"GPU-a"}},
	} {
		_, err := trtexec.TakenGPU{}.Check(asked)
		f, ok := errors.AsType[*pipeline.Fault](err)
		if !ok || f.Kind != pipeline.ContainerFailed || !strings.Contains(f.Hint, "Selected Device") ||
			f.Error() != `trtexec did not say which GPU it took, so that the engine may be for another than --gpus "all"` {
			t.Errorf("%s is known: %v", name, err)
		}
	}
}

// TestTimingCacheKey checks that a key is told apart by what a timing cache is of, and by nothing else. Another form of it would lose all that are kept.
func TestTimingCacheKey(t *testing.T) {
	t.Parallel()
	gpu := trtexec.AskedGPU{Flag: "all", Model: "Tesla T4", Where: "here", Compute: "7.5", UUIDs: []string{"GPU-a"}}
	const want = "Tesla T4, compute capability 7.5, image sha256:1"
	if got := trtexec.TimingCacheKey(gpu, "sha256:1"); got != want {
		t.Errorf("the key is %q", got)
	}
	if got := trtexec.TimingCacheKey(trtexec.AskedGPU{Where: "GPU 0 at tcp://far:2375"}, "sha256:1"); !strings.HasPrefix(got, "GPU 0 at tcp://far:2375, ") {
		t.Errorf("of a GPU whose model is not known the key is %q", got)
	}
	for name, tt := range map[string]struct {
		change func(*trtexec.AskedGPU)
		digest string
		same   bool
	}{
		"another model":    {func(g *trtexec.AskedGPU) { g.Model = "NVIDIA L4" }, "sha256:1", false},
		"an unknown model": {func(g *trtexec.AskedGPU) { g.Model = "" }, "sha256:1", false},
		"another compute":  {func(g *trtexec.AskedGPU) { g.Compute = "8.9" }, "sha256:1", false},
		"another image":    {func(*trtexec.AskedGPU) {}, "sha256:2", false},
		"another UUID":     {func(g *trtexec.AskedGPU) { g.UUIDs = []string{"GPU-b"} }, "sha256:1", true},
		"another flag":     {func(g *trtexec.AskedGPU) { g.Flag = "device=0" }, "sha256:1", true},
	} {
		changed := gpu
		tt.change(&changed)
		if got := trtexec.TimingCacheKey(changed, tt.digest); (got == want) != tt.same {
			t.Errorf("%s: the key is %q", name, got)
		}
	}
}
