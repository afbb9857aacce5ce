package steps_test

import (
	"context"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/parity"
	"github.com/dalirun/dalirun/internal/result"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
	"github.com/dalirun/dalirun/triton"
)

func TestVerify(t *testing.T) {
	t.Parallel()
	for name, newWorld := range cases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if err := w.run(t, t.Context(), steps.IDVerify); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]parity.Name(nil), w.off(t)); diff != "" {
				t.Errorf("comparisons that are off (-want +got):\n%s", diff)
			}
			top, _ := resultOf(t, w, result.Top)
			if len(top) != 5 {
				t.Fatalf("the top classes are %v", top)
			}
			best := triton.TopK(network(0, cached(coffee())), 1, labels())[0]
			if top[0].Index != best.Index || top[0].Label != best.Label || top[0].Label == "" {
				t.Errorf("the best class is %+v, and PyTorch's %+v", top[0], best)
			}
			if !slices.IsSortedFunc(top, func(a, b result.Class) int { return int(math.Copysign(1, float64(b.Score-a.Score))) }) {
				t.Errorf("the top classes are not in order: %v", top)
			}
		})
	}
}

// off are the comparisons of the report that are off. Each report has all three.
func (w *world) off(t *testing.T) []parity.Name {
	t.Helper()
	report, _ := resultOf(t, w, result.Parity)
	if len(report.Comparisons) != 3 {
		t.Fatalf("the report is %+v", report)
	}
	var off []parity.Name
	for _, c := range report.Comparisons {
		if !c.OK {
			off = append(off, c.Name)
		}
	}
	return off
}

// TestVerifyFails holds the negative controls: a server that is wrong in one way, and which comparisons must say so. A
// verification that cannot fail proves nothing.
func TestVerifyFails(t *testing.T) {
	t.Parallel()
	const pre, model, ensemble = parity.Preprocessing, parity.Model, parity.Ensemble
	each := func(change func(c int, v float32) float32) func([]float32) []float32 {
		return func(values []float32) []float32 {
			for i, v := range values {
				values[i] = change(i/plane, v)
			}
			return values
		}
	}
	deviation := [3]float32{0.229, 0.224, 0.225}
	mean := [3]float32{0.485, 0.456, 0.406}
	tests := map[string]struct {
		faults faults
		want   []parity.Name
	}{
		"channels are swapped": {faults{tensor: func(v []float32) []float32 {
			return slices.Concat(v[2*plane:], v[plane:2*plane], v[:plane])
		}}, []parity.Name{pre, ensemble}},
		"channels come last": {faults{tensor: func(v []float32) []float32 {
			out := make([]float32, len(v))
			for i := range v {
				out[i] = v[i%3*plane+i/3]
			}
			return out
		}}, []parity.Name{pre, ensemble}},
		"means are off by two steps of a colour": {
			faults{tensor: each(func(c int, v float32) float32 { return v + 2./255/deviation[c] })}, []parity.Name{pre},
		},
		"means and deviations are 0.5": {
			faults{tensor: each(func(c int, v float32) float32 { return (v*deviation[c] + mean[c] - 0.5) / 0.5 })},
			[]parity.Name{pre, ensemble},
		},
		"colours are not normalized": {
			faults{tensor: each(func(c int, v float32) float32 { return 255 * (v*deviation[c] + mean[c]) })},
			[]parity.Name{pre, ensemble},
		},
		"another picture": {
			faults{picture: func([]byte) []byte { return otherPicture() }}, []parity.Name{pre, ensemble},
		},
		"NaN in the tensor": {faults{tensor: func(v []float32) []float32 {
			v[1234] = float32(math.NaN())
			return v
		}}, []parity.Name{pre, ensemble}},
		"other weights": {
			faults{logits: func(v []float32) []float32 { return slices.Concat(v[1:], v[:1]) }}, []parity.Name{model, ensemble},
		},
		"a softmax is one too many": {faults{logits: softmax}, []parity.Name{model, ensemble}},
		"logits are all zeros": {
			faults{logits: func(v []float32) []float32 { return make([]float32, len(v)) }}, []parity.Name{model, ensemble},
		},
		"logits are NaN": {faults{logits: func(v []float32) []float32 {
			v[0] = float32(math.NaN())
			return v
		}}, []parity.Name{model, ensemble}},
		"logits are infinite": {faults{logits: func(v []float32) []float32 {
			v[999] = float32(math.Inf(-1))
			return v
		}}, []parity.Name{model, ensemble}},
		"the ensemble has another model": {
			faults{ensemble: func(tensor, _ []float32) []float32 { return network(1, tensor) }}, []parity.Name{ensemble},
		},
		"the ensemble leaves the preprocessing out": {
			faults{ensemble: func(tensor, _ []float32) []float32 { return network(0, make([]float32, len(tensor))) }},
			[]parity.Name{ensemble},
		},
		"the ensemble is NaN": {faults{ensemble: func(_, logits []float32) []float32 {
			logits[5] = float32(math.NaN())
			return logits
		}}, []parity.Name{ensemble}},
		"all of it": {faults{
			picture: func([]byte) []byte { return otherPicture() },
			logits:  func(v []float32) []float32 { return slices.Concat(v[1:], v[:1]) },
		}, []parity.Name{pre, model, ensemble}},
	}
	for name, tt := range tests {
		for lane, newWorld := range map[string]func(*testing.T) *world{"cpu": cpuLocal, "gpu": gpuNGC} {
			t.Run(name+"/"+lane, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.serveModels(t, tt.faults)
				err := w.run(t, t.Context(), steps.IDVerify)
				f := fault(t, err, pipeline.NotVerified)
				if !errors.Is(err, parity.ErrOff) || f.Hint == "" {
					t.Errorf("got %q with the hint %q, want ErrOff", err, f.Hint)
				}
				if diff := cmp.Diff(tt.want, w.off(t)); diff != "" {
					t.Errorf("comparisons that are off (-want +got):\n%s", diff)
				}
				for _, c := range []parity.Name{pre, model, ensemble} {
					if named := strings.Contains(f.Error(), string(c)+" is off ("); named != slices.Contains(tt.want, c) {
						t.Errorf("the error names %s: %t: %s", c, named, f)
					}
				}
				if _, ok := resultOf(t, w, result.Top); !ok {
					t.Error("the served classes are not told")
				}
			})
		}
	}
}

func softmax(logits []float32) []float32 {
	most, sum := float64(slices.Max(logits)), 0.
	for _, v := range logits {
		sum += math.Exp(float64(v) - most)
	}
	for i, v := range logits {
		logits[i] = float32(math.Exp(float64(v)-most) / sum)
	}
	return logits
}

// TestVerifyOfOtherSizes checks that answers that cannot be compared are no success.
func TestVerifyOfOtherSizes(t *testing.T) {
	t.Parallel()
	w := cpuLocal(t)
	w.serveModels(t, faults{})
	w.make(t, steps.IDVerify)
	reference := w.values[w.step(steps.IDReference).Outputs()[1]].Path
	for name, change := range map[string]func([]byte) []byte{
		"999 values":  func(data []byte) []byte { return data[4:] },
		"no value":    func([]byte) []byte { return nil },
		"NaN":         func(data []byte) []byte { return append([]byte{0, 0, 0xc0, 0x7f}, data[4:]...) },
		"zeros alone": func(data []byte) []byte { return make([]byte, len(data)) },
	} {
		data := read(t, reference)
		if err := os.WriteFile(reference, change(slices.Clone(data)), 0o600); err != nil {
			t.Fatal(err)
		}
		err := w.run(t, t.Context(), steps.IDVerify)
		if f := fault(t, err, pipeline.NotVerified); !strings.Contains(f.Error(), "compare model: ") {
			t.Errorf("%s: got %q", name, f)
		}
		if err := os.WriteFile(reference, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.run(t, t.Context(), steps.IDVerify); err != nil {
		t.Errorf("with the whole reference: %v", err)
	}
}

// TestVerifyWithoutAnswers checks that a server that does not answer is not one that answers wrong.
func TestVerifyWithoutAnswers(t *testing.T) {
	t.Parallel()
	for _, model := range []string{"dali", "resnet50_onnx", "ensemble_dali_resnet50"} {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			w := cpuLocal(t)
			w.make(t, steps.IDVerify)
			w.triton().Intercept(func(_ context.Context, rpc, name string) error {
				if rpc == "ModelInfer" && name == model {
					return errors.New("stub process is unhealthy")
				}
				return nil
			})
			err := w.run(t, t.Context(), steps.IDVerify)
			f := fault(t, err, pipeline.NotReady)
			if !strings.Contains(f.Error(), model) || !strings.Contains(f.Error(), "stub process is unhealthy") || f.Hint == "" {
				t.Errorf("got %q with the hint %q", f, f.Hint)
			}
			if report, ok := resultOf(t, w, result.Parity); ok {
				t.Errorf("a report was emitted: %v", report)
			}
		})
	}
}

// TestVerifyOfDeadServer checks that a server that is gone is named.
func TestVerifyOfDeadServer(t *testing.T) {
	t.Parallel()
	w := cpuLocal(t)
	w.make(t, steps.IDVerify)
	w.triton().Stop()
	f := fault(t, w.run(t, t.Context(), steps.IDVerify), pipeline.NotReady)
	if !strings.Contains(f.Error(), "dali") {
		t.Errorf("got %q", f)
	}
}
