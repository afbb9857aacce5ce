// Package parity compares what a server answers with what PyTorch answers, and
// says whether they are the same picture seen by the same model.
//
// The comparison is made in three places, so that an error can be told apart:
// the tensor that DALI makes of a picture, the model's logits for one given
// tensor, and the answer to the picture as a whole.
package parity

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/dalirun/dalirun/internal/release"
)

// Name says what is compared with its reference.
type Name string

// The three comparisons of one verification.
const (
	Preprocessing Name = "preprocessing" // DALI's tensor with the reference tensor, both 3×224×224, normalized
	Model         Name = "model"         // the served model's logits for the reference tensor with PyTorch's
	Ensemble      Name = "ensemble"      // the served answer to the encoded picture with PyTorch's
)

// Figures say how far values are from those that were wanted. They are taken
// over the pairs whose value is finite, so that they can always be written as
// JSON; a value that is not is counted in NonFinite, and no bound allows it.
type Figures struct {
	N         int     `json:"n"`          // values compared, with those that are not finite
	MeanAbs   float64 `json:"mean_abs"`   // mean absolute difference, in the values' own unit
	MaxAbs    float64 `json:"max_abs"`    // largest absolute difference, in the values' own unit
	MaxRel    float64 `json:"max_rel"`    // MaxAbs divided by the largest absolute value that was wanted
	Cosine    float64 `json:"cosine"`     // cosine of the angle between the two as vectors, -1 to 1; 0 if got is all zeros
	GotTop    int     `json:"got_top"`    // index of the largest value, the first of equals; -1 if none is finite
	WantTop   int     `json:"want_top"`   // the same of what was wanted
	TopEqual  bool    `json:"top_equal"`  // GotTop is WantTop
	NonFinite int     `json:"non_finite"` // values that are NaN or infinite
}

// Compare returns how far got is from want. It fails if they differ in length
// or if want is no reference: empty, all zeros, or with a value that is NaN or
// infinite. Such values in got are a wrong answer, not an error.
func Compare(got, want []float32) (Figures, error) {
	if len(got) != len(want) {
		return Figures{}, fmt.Errorf("%d values were answered, the reference has %d", len(got), len(want))
	}
	f := Figures{N: len(want), GotTop: -1, WantTop: -1}
	var sum, dot, gotSquares, wantSquares, scale float64
	for i := range want {
		g, w := float64(got[i]), float64(want[i])
		if !finite(w) {
			return Figures{}, fmt.Errorf("value %d of the reference is %v: it cannot be compared with", i, w)
		}
		scale = max(scale, math.Abs(w))
		if f.WantTop < 0 || want[i] > want[f.WantTop] {
			f.WantTop = i
		}
		if !finite(g) {
			f.NonFinite++
			continue
		}
		if f.GotTop < 0 || got[i] > got[f.GotTop] {
			f.GotTop = i
		}
		diff := math.Abs(g - w)
		sum += diff
		f.MaxAbs = max(f.MaxAbs, diff)
		dot += float64(g * w) // arm64 would round once for both operations, and have other last digits
		gotSquares += float64(g * g)
		wantSquares += float64(w * w)
	}
	if scale == 0 {
		return Figures{}, fmt.Errorf("the reference has %d values and none but zeros: it cannot be compared with", len(want))
	}
	if compared := f.N - f.NonFinite; compared > 0 {
		f.MeanAbs = sum / float64(compared)
	}
	if gotSquares > 0 && wantSquares > 0 {
		// Rounding may leave the quotient just outside, where no cosine is.
		f.Cosine = max(-1, min(1, dot/(math.Sqrt(gotSquares)*math.Sqrt(wantSquares))))
	}
	f.MaxRel = f.MaxAbs / scale
	f.TopEqual = f.GotTop == f.WantTop
	return f, nil
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// Bound says how far is still the same. A figure of 0, or false, is not bounded.
type Bound struct {
	MeanAbs   float64 `json:"mean_abs,omitzero"`
	MaxAbs    float64 `json:"max_abs,omitzero"`
	MaxRel    float64 `json:"max_rel,omitzero"`
	MinCosine float64 `json:"min_cosine,omitzero"`
	TopEqual  bool    `json:"top_equal,omitzero"`
}

// off returns a phrase for each figure that is out of bounds.
func (b Bound) off(f Figures) []string {
	var off []string
	if f.NonFinite > 0 {
		off = append(off, fmt.Sprintf("%d of %d values are NaN or infinite", f.NonFinite, f.N))
	}
	for _, figure := range []struct {
		what        string
		value, most float64
	}{
		{"mean abs difference", f.MeanAbs, b.MeanAbs},
		{"max abs difference", f.MaxAbs, b.MaxAbs},
		{"max difference relative to the largest value", f.MaxRel, b.MaxRel},
	} {
		if figure.most > 0 && figure.value > figure.most {
			off = append(off, fmt.Sprintf("%s %.3g is over %.3g", figure.what, figure.value, figure.most))
		}
	}
	if b.MinCosine > 0 && f.Cosine < b.MinCosine {
		off = append(off, fmt.Sprintf("cosine %.6f is under %.6f", f.Cosine, b.MinCosine))
	}
	if b.TopEqual && !f.TopEqual {
		off = append(off, fmt.Sprintf("the top class is %d, not %d", f.GotTop, f.WantTop))
	}
	return off
}

// Comparison is one comparison and its verdict.
type Comparison struct {
	Name    Name     `json:"name"`
	Figures Figures  `json:"figures"`
	Bound   Bound    `json:"bound"`
	OK      bool     `json:"ok"`
	Off     []string `json:"off,omitempty"` // a phrase for each figure that is out of bounds
}

// Check compares got with want and holds the figures against a bound. Its error
// says that no comparison could be made; a wrong answer is a Comparison that is
// not OK. A bound that bounds nothing is an error, since nothing could fail it.
func Check(name Name, got, want []float32, bound Bound) (Comparison, error) {
	if bound == (Bound{}) {
		return Comparison{}, fmt.Errorf("compare %s: no figure is bounded, so any answer would pass", name)
	}
	figures, err := Compare(got, want)
	if err != nil {
		return Comparison{}, fmt.Errorf("compare %s: %w", name, err)
	}
	off := bound.off(figures)
	return Comparison{Name: name, Figures: figures, Bound: bound, OK: len(off) == 0, Off: off}, nil
}

// ErrOff is what Report.Err wraps when an answer is not the reference's.
var ErrOff = errors.New("the served answer is not PyTorch's")

// Report holds the comparisons of one verification.
type Report struct {
	Comparisons []Comparison `json:"comparisons"`
}

// OK reports whether something was compared and nothing was off.
func (r Report) OK() bool { return r.Err() == nil }

// Err returns nil if something was compared and nothing was off. Else it returns
// one sentence that names each comparison which is off, and by how much; it
// wraps ErrOff.
func (r Report) Err() error {
	if len(r.Comparisons) == 0 {
		return fmt.Errorf("%w: nothing was compared", ErrOff)
	}
	var parts []string
	for _, c := range r.Comparisons {
		if !c.OK {
			parts = append(parts, string(c.Name)+" is off ("+strings.Join(c.Off, ", ")+")")
		}
	}
	if len(parts) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrOff, strings.Join(parts, "; "))
}

// Answers are what one verification compares.
type Answers struct {
	Tensor   []float32 // DALI's, 3×height×width, normalized
	Logits   []float32 // the served model's, for WantTensor
	Ensemble []float32 // the server's, for the encoded picture

	WantTensor, WantLogits []float32 // PyTorch's
}

// CheckAll makes the three comparisons with the bounds of a precision. Its error says that one could not be made.
func CheckAll(a Answers, precision release.Precision) (Report, error) {
	pre, model, ensemble := Bounds(precision)
	var report Report
	for _, c := range []struct {
		name      Name
		got, want []float32
		bound     Bound
	}{
		{Preprocessing, a.Tensor, a.WantTensor, pre},
		{Model, a.Logits, a.WantLogits, model},
		{Ensemble, a.Ensemble, a.WantLogits, ensemble},
	} {
		comparison, err := Check(c.name, c.got, c.want, c.bound)
		if err != nil {
			return report, err
		}
		report.Comparisons = append(report.Comparisons, comparison)
	}
	return report, nil
}
