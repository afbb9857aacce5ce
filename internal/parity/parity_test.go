package parity_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/dalirun/dalirun/internal/parity"
	"github.com/dalirun/dalirun/internal/release"
)

const plane = 224 * 224

// tensor returns a smooth synthetic picture as a normalized 3×224×224 tensor;
// another seed is another picture.
func tensor(seed uint64, mean, std [3]float64) []float32 {
	random := rand.New(rand.NewPCG(seed, 1))
	out := make([]float32, 3*plane)
	for c := range 3 {
		level, fx, fy := 0.2+0.6*random.Float64(), 1+9*random.Float64(), 1+9*random.Float64()
		for i := range plane {
			x, y := float64(i%224)/224, float64(i/224)/224
			v := min(1, max(0, level+0.25*math.Sin(2*math.Pi*fx*x)*math.Cos(2*math.Pi*fy*y)))
			out[c*plane+i] = float32((v - mean[c]) / std[c])
		}
	}
	return out
}

func imageNet() (mean, std [3]float64) {
	return [3]float64{0.485, 0.456, 0.406}, [3]float64{0.229, 0.224, 0.225}
}

// logits returns what a synthetic linear classifier of 1,000 classes says about a
// tensor, on a scale of about ±20, so that a wrong tensor is a wrong answer.
func logits(in []float32) []float32 {
	random := rand.New(rand.NewPCG(7, 7))
	out := make([]float32, 1000)
	for class := range out {
		var sum float64
		for range 64 {
			sum += (random.Float64() - 0.5) * float64(in[random.IntN(len(in))])
		}
		out[class] = float32(2 * sum)
	}
	return out
}

// noisy adds noise of up to ±size to every value.
func noisy(in []float32, size float64) []float32 {
	random := rand.New(rand.NewPCG(3, 3))
	out := make([]float32, len(in))
	for i, v := range in {
		out[i] = v + float32(size*(2*random.Float64()-1))
	}
	return out
}

func swapped(in []float32) []float32 {
	out := append([]float32(nil), in[2*plane:]...)
	out = append(out, in[plane:2*plane]...)
	return append(out, in[:plane]...)
}

func TestCompare(t *testing.T) {
	t.Parallel()
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for name, tt := range map[string]struct {
		got, want []float32
		figures   parity.Figures
	}{
		"equal": {
			[]float32{1, -4, 2},
			[]float32{1, -4, 2},
			parity.Figures{N: 3, Cosine: 1, GotTop: 2, WantTop: 2, TopEqual: true},
		},
		"shifted": {
			[]float32{3, 0},
			[]float32{0, 4},
			parity.Figures{N: 2, MeanAbs: 3.5, MaxAbs: 4, MaxRel: 1, GotTop: 0, WantTop: 1},
		},
		"opposite": {
			[]float32{-1, -2},
			[]float32{1, 2},
			parity.Figures{N: 2, MeanAbs: 3, MaxAbs: 4, MaxRel: 2, Cosine: -1, GotTop: 0, WantTop: 1},
		},
		"all zeros answered": {
			[]float32{0, 0},
			[]float32{2, 1},
			parity.Figures{N: 2, MeanAbs: 1.5, MaxAbs: 2, MaxRel: 1, TopEqual: true},
		},
		"not finite": {
			[]float32{nan, 1, inf, -inf},
			[]float32{9, 2, 1, 1},
			parity.Figures{N: 4, MeanAbs: 1, MaxAbs: 1, MaxRel: 1. / 9, Cosine: 1, GotTop: 1, WantTop: 0, NonFinite: 3},
		},
		"nothing finite": {
			[]float32{nan, nan},
			[]float32{1, 2},
			parity.Figures{N: 2, GotTop: -1, WantTop: 1, NonFinite: 2},
		},
		"the largest float32": {
			[]float32{math.MaxFloat32, -math.MaxFloat32},
			[]float32{math.MaxFloat32, math.MaxFloat32},
			parity.Figures{N: 2, MeanAbs: math.MaxFloat32, MaxAbs: 2 * math.MaxFloat32, MaxRel: 2, TopEqual: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			figures, err := parity.Compare(tt.got, tt.want)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.figures, figures, cmpopts.EquateApprox(1e-12, 1e-12)); diff != "" {
				t.Errorf("figures (-want +got):\n%s", diff)
			}
			if _, err := json.Marshal(figures); err != nil {
				t.Errorf("figures cannot be written as JSON: %v", err)
			}
		})
	}
}

func TestCompareRefuses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		got, want []float32
		says      string
	}{
		"another length":     {make([]float32, 3), make([]float32, 2), "3 values were answered, the reference has 2"},
		"nothing":            {nil, nil, "none but zeros"},
		"a zero reference":   {[]float32{1}, []float32{0}, "none but zeros"},
		"a broken reference": {[]float32{1, 1}, []float32{1, float32(math.NaN())}, "value 1 of the reference is NaN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parity.Check(parity.Model, tt.got, tt.want, parity.Bound{MaxAbs: 1})
			if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "compare model") {
				t.Errorf("error %v, want one with %q", err, tt.says)
			}
		})
	}
	if c, err := parity.Check(parity.Model, []float32{1}, []float32{1}, parity.Bound{}); err == nil {
		t.Errorf("a bound that bounds nothing gave %+v", c)
	}
}

// TestControls holds the bounds against answers that must pass and answers that must not.
func TestControls(t *testing.T) {
	t.Parallel()
	mean, std := imageNet()
	want := tensor(1, mean, std)
	wantLogits := logits(want)
	shifted := mean
	for c := range shifted {
		shifted[c] += 4. / 255
	}
	half := [3]float64{0.5, 0.5, 0.5}
	for name, tt := range map[string]struct {
		got []float32
		ok  bool
	}{
		"equal":               {want, true},
		"rounding":            {noisy(want, 0.005), true},
		"swapped channels":    {swapped(want), false},
		"another picture":     {tensor(2, mean, std), false},
		"means of 0.5":        {tensor(1, half, half), false},
		"means off by 4/255":  {tensor(1, shifted, std), false},
		"not normalized":      {tensor(1, [3]float64{}, [3]float64{1, 1, 1}), false},
		"one pixel far off":   {farOff(want), false},
		"one value not a num": {withNaN(want), false},
	} {
		for _, precision := range []release.Precision{release.FP32, release.FP16} {
			t.Run(fmt.Sprintf("%s %s", name, precision), func(t *testing.T) {
				t.Parallel()
				preprocessing, _, ensemble := parity.Bounds(precision)
				expect(t, parity.Preprocessing, tt.got, want, preprocessing, tt.ok)
				// What is small in the tensor may be lost in the logits: the
				// whole is held against the gross errors and the good ones.
				switch name {
				case "equal", "rounding", "swapped channels", "another picture", "means of 0.5", "not normalized":
					expect(t, parity.Ensemble, logits(tt.got), wantLogits, ensemble, tt.ok)
				}
			})
		}
	}
}

// TestModelControls does the same for the model: its weights and its rounding.
func TestModelControls(t *testing.T) {
	t.Parallel()
	want := logits(tensor(1, [3]float64{}, [3]float64{1, 1, 1}))
	figures, err := parity.Compare(want, want)
	if err != nil {
		t.Fatal(err)
	}
	second := append([]float32(nil), want...)
	second[(figures.WantTop+1)%len(second)] = want[figures.WantTop] * 1.0001
	shuffled := append([]float32(nil), want...)
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	_, fp32, _ := parity.Bounds(release.FP32)
	_, fp16, _ := parity.Bounds(release.FP16)
	for name, tt := range map[string]struct {
		got        []float32
		fp32, fp16 bool
	}{
		"equal":               {want, true, true},
		"rounding of fp32":    {noisy(want, 1e-4), true, true},
		"rounding of fp16":    {noisy(want, 0.02), false, true},
		"noise":               {noisy(want, 2), false, false},
		"another top class":   {second, false, false},
		"labels in disorder":  {shuffled, false, false},
		"one value not a num": {withNaN(want), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expect(t, parity.Model, tt.got, want, fp32, tt.fp32)
			expect(t, parity.Model, tt.got, want, fp16, tt.fp16)
		})
	}
}

func expect(t *testing.T, name parity.Name, got, want []float32, bound parity.Bound, ok bool) {
	t.Helper()
	c, err := parity.Check(name, got, want, bound)
	if err != nil {
		t.Fatal(err)
	}
	if c.OK != ok || (len(c.Off) == 0) != ok {
		t.Errorf("%s: ok %t, off %q, figures %+v", name, c.OK, c.Off, c.Figures)
	}
}

func farOff(in []float32) []float32 {
	out := append([]float32(nil), in...)
	out[plane+17] += 1
	return out
}

func withNaN(in []float32) []float32 {
	out := append([]float32(nil), in...)
	out[5] = float32(math.NaN())
	return out
}

func TestBoundsOfAnUnknownPrecisionAreRefused(t *testing.T) {
	t.Parallel()
	preprocessing, model, ensemble := parity.Bounds("int8")
	for _, bound := range []parity.Bound{preprocessing, model, ensemble} {
		if _, err := parity.Check(parity.Model, []float32{1}, []float32{1}, bound); err == nil {
			t.Errorf("bound %+v was accepted", bound)
		}
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	good, err := parity.Check(parity.Model, []float32{1, 2}, []float32{1, 2}, parity.Bound{MaxRel: 0.1, TopEqual: true})
	if err != nil {
		t.Fatal(err)
	}
	bad, err := parity.Check(parity.Preprocessing, []float32{1.41, 2.41}, []float32{1, 2}, parity.Bound{MeanAbs: 0.02, MinCosine: 0.9999})
	if err != nil {
		t.Fatal(err)
	}
	worse, err := parity.Check(parity.Ensemble, []float32{2, 1, float32(math.NaN())}, []float32{1, 2, 0}, parity.Bound{MaxAbs: 5, MaxRel: 0.1, TopEqual: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		report parity.Report
		want   string
	}{
		"good":    {parity.Report{Comparisons: []parity.Comparison{good}}, ""},
		"nothing": {parity.Report{}, "the served answer is not PyTorch's: nothing was compared"},
		"two off": {
			parity.Report{Comparisons: []parity.Comparison{bad, good, worse}},
			"the served answer is not PyTorch's: " +
				"preprocessing is off (mean abs difference 0.41 is over 0.02, cosine 0.997841 is under 0.999900); " +
				"ensemble is off (1 of 3 values are NaN or infinite, max difference relative to the largest value 0.5 is over 0.1, the top class is 0, not 1)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := tt.report.Err()
			text := ""
			if err != nil {
				text = err.Error()
			}
			if diff := cmp.Diff(tt.want, text); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if tt.report.OK() != (tt.want == "") || errors.Is(err, parity.ErrOff) != (tt.want != "") {
				t.Errorf("ok %t, error %v", tt.report.OK(), err)
			}
		})
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	c, err := parity.Check(parity.Model, []float32{0, 3}, []float32{0, 4}, parity.Bound{MaxAbs: 0.5, TopEqual: true})
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(parity.Report{Comparisons: []parity.Comparison{c}})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"comparisons":[{"name":"model",` +
		`"figures":{"n":2,"mean_abs":0.5,"max_abs":1,"max_rel":0.25,"cosine":1,"got_top":1,"want_top":1,"top_equal":true,"non_finite":0},` +
		`"bound":{"max_abs":0.5,"top_equal":true},"ok":false,"off":["max abs difference 1 is over 0.5"]}]}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
}
