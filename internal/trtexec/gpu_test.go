package trtexec_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/trtexec"
	"github.com/dalirun/dalirun/pipeline"
)

// TestSelectedGPU checks which GPU is one that was asked for, by what trtexec prints of it, and how that is known.
func TestSelectedGPU(t *testing.T) {
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
		uuids []string
		model string // in place of the H100
		proof trtexec.GPUProof
		wrong string // what trtexec took, where it is another
	}{
		"asked for":                  {log: isA, uuids: []string{a}, proof: trtexec.ProofUUID},
		"one of those asked for":     {log: isA, uuids: []string{b, a}, proof: trtexec.ProofUUID},
		"another of the model":       {log: isA, uuids: []string{b}, wrong: "NVIDIA H100 80GB HBM3, " + a},
		"another model":              {log: "[I] Selected Device: NVIDIA L4\n[I] Selected Device UUID: " + a, uuids: []string{a}, wrong: "NVIDIA L4, " + a},
		"another model, no UUID":     {log: "[I] Selected Device: Tesla T4", uuids: []string{a}, wrong: "Tesla T4"},
		"a name that begins so":      {log: "[I] Selected Device: NVIDIA H100 80GB HBM3e", uuids: []string{a}, wrong: "NVIDIA H100 80GB HBM3e"},
		"no UUID":                    {log: name, uuids: []string{a}, proof: trtexec.ProofName},
		"older library's name":       {log: "[I] Selected Device: H100 80GB HBM3", uuids: []string{a}, proof: trtexec.ProofName},
		"UUIDs are not known":        {log: isA, proof: trtexec.ProofName},
		"model is not known":         {log: isA, uuids: []string{a}, model: nobody, proof: trtexec.ProofUUID},
		"model and UUID as written":  {log: isA, uuids: []string{"GPU-aaaaaaaa"}, model: nobody, proof: trtexec.ProofUUID},
		"model is not known, other":  {log: isA, uuids: []string{b}, model: nobody, wrong: "NVIDIA H100 80GB HBM3, " + a},
		"nothing is known":           {log: isA, model: nobody},
		"MIG, its UUID":              {log: isMIG, uuids: []string{mig}, model: "NVIDIA H100 80GB HBM3 MIG 1g.10gb", proof: trtexec.ProofUUID},
		"MIG, the GPU's UUID":        {log: isA, uuids: []string{mig}, model: "NVIDIA H100 80GB HBM3 MIG 1g.10gb", proof: trtexec.ProofName},
		"MIG of another model":       {log: isMIG, uuids: []string{mig}, model: "NVIDIA A100-SXM4-80GB MIG 1g.10gb", wrong: "NVIDIA H100 80GB HBM3 MIG 1g.10gb, GPU-1111"},
		"MIG and a GPU, another":     {log: isA, uuids: []string{mig, b}, wrong: "NVIDIA H100 80GB HBM3, " + a},
		"MIG of an unknown model":    {log: isA, uuids: []string{mig}, model: nobody},
		"only a UUID is known":       {log: name, uuids: []string{a}, model: nobody},
		"neither says anything":      {log: "", model: nobody},
		"a second one says another":  {log: isA + "\n[I] Selected Device UUID: " + b, uuids: []string{a}, proof: trtexec.ProofUUID},
		"only the list says another": {log: "[I] Available Devices: \n[I]   Device 0: \"NVIDIA L4\" UUID: " + b + "\n" + isA, uuids: []string{a}, proof: trtexec.ProofUUID},
	}
	for test, tt := range tests {
		t.Run(test, func(t *testing.T) {
			t.Parallel()
			requested := trtexec.RequestedGPU{Flag: "device=0", Model: h100, UUIDs: tt.uuids}
			switch tt.model {
			case "":
			case nobody:
				requested.Model, requested.Location = "", "GPU 0 at tcp://far:2375"
			default:
				requested.Model = tt.model
			}
			_, facts := readLog(tt.log)
			proof, err := facts.GPU.Check(requested)
			if proof != tt.proof {
				t.Errorf("proven by %q, want %q", proof, tt.proof)
			}
			if tt.wrong == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			mismatch, ok := errors.AsType[*trtexec.OtherGPUError](err)
			if !ok || mismatch.Selected != facts.GPU {
				t.Fatalf("got %v", err)
			}
			for _, want := range []string{
				`the engine was built on another GPU than was asked for: --gpus "device=0" is ` + requested.Model,
				strings.Join(tt.uuids, ", ") + ", and trtexec took " + tt.wrong,
			} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, which lacks %q", err, want)
				}
			}
		})
	}
}

// TestUnknownSelectedGPU checks that a trtexec that prints no GPU is refused where anything is known of those asked for.
func TestUnknownSelectedGPU(t *testing.T) {
	t.Parallel()
	for name, requested := range map[string]trtexec.RequestedGPU{
		"model and UUID": {Flag: "all", Model: "Tesla T4", UUIDs: []string{"GPU-a"}},
		"the model":      {Flag: "all", Model: "Tesla T4"},
		"the UUID":       {Flag: "all", Location: "GPU-a at tcp://far:2375", UUIDs: []string{"GPU-a"}},
	} {
		_, err := trtexec.SelectedGPU{}.Check(requested)
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
	gpu := trtexec.RequestedGPU{Flag: "all", Model: "Tesla T4", Location: "here", Compute: "7.5", UUIDs: []string{"GPU-a"}}
	const want = "Tesla T4, compute capability 7.5, image sha256:1"
	if got := trtexec.TimingCacheKey(gpu, "sha256:1"); got != want {
		t.Errorf("the key is %q", got)
	}
	if got := trtexec.TimingCacheKey(trtexec.RequestedGPU{Location: "GPU 0 at tcp://far:2375"}, "sha256:1"); !strings.HasPrefix(got, "GPU 0 at tcp://far:2375, ") {
		t.Errorf("of a GPU whose model is not known the key is %q", got)
	}
	for name, tt := range map[string]struct {
		change func(*trtexec.RequestedGPU)
		digest string
		same   bool
	}{
		"another model":    {func(g *trtexec.RequestedGPU) { g.Model = "NVIDIA L4" }, "sha256:1", false},
		"an unknown model": {func(g *trtexec.RequestedGPU) { g.Model = "" }, "sha256:1", false},
		"another compute":  {func(g *trtexec.RequestedGPU) { g.Compute = "8.9" }, "sha256:1", false},
		"another image":    {func(*trtexec.RequestedGPU) {}, "sha256:2", false},
		"another UUID":     {func(g *trtexec.RequestedGPU) { g.UUIDs = []string{"GPU-b"} }, "sha256:1", true},
		"another flag":     {func(g *trtexec.RequestedGPU) { g.Flag = "device=0" }, "sha256:1", true},
	} {
		changed := gpu
		tt.change(&changed)
		if got := trtexec.TimingCacheKey(changed, tt.digest); (got == want) != tt.same {
			t.Errorf("%s: the key is %q", name, got)
		}
	}
}
