package chart

import "math"

// scale gives the values of an axis their places.
type scale struct {
	log      bool
	lo, hi   float64 // values at the two ends
	from, to float64 // places of lo and hi
}

const (
	most       = 8 // marks of an axis, about
	eachDecade = 3 // marks of a logarithmic axis in a decade: 1, 2 and 5
	// What is beyond these is no figure of anything, and arithmetic with it has no end.
	smallest, largest = 1e-15, 1e15
)

// newScale returns one that has all values that have a place. If it is round, both of its ends are round numbers.
func newScale(a Axis, values []float64, from, to float64, isRound bool) scale {
	s := scale{log: a.Log, from: from, to: to}
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, v := range append([]float64{a.Reach}, values...) {
		if s.has(v) {
			lo, hi = min(lo, v), max(hi, v)
		}
	}
	switch {
	case lo > hi || hi < smallest: // there is nothing to show
		s.lo, s.hi = 1, 10
	case isRound && s.log:
		s.lo, s.hi = below(lo), above(hi)
	case isRound:
		s.hi = step(hi) * math.Ceil(hi/step(hi))
	case s.log:
		s.lo, s.hi = lo, hi
	default:
		s.hi = hi
	}
	if s.log && s.lo == s.hi {
		s.hi = 2 * s.lo
	}
	if !s.log {
		s.lo = 0
	}
	return s
}

// has says whether a value has a place.
func (s scale) has(v float64) bool {
	return v >= 0 && v <= largest && (v >= smallest || !s.log) // a NaN is not
}

func (s scale) at(v float64) float64 {
	part := (v - s.lo) / (s.hi - s.lo)
	if s.log {
		part = math.Log(v/s.lo) / math.Log(s.hi/s.lo)
	}
	return s.from + part*(s.to-s.from)
}

// marks are round numbers from one end to the other. Of many decades only powers of ten are marked.
func (s scale) marks() []float64 {
	var out []float64
	if !s.log {
		for i := 0.0; i*step(s.hi) <= s.hi*(1+1e-9); i++ {
			out = append(out, i*step(s.hi))
		}
		return out
	}
	tens := math.Log10(s.hi/s.lo)*eachDecade > most
	for v := s.lo; v <= s.hi*(1+1e-9); v = above(v * (1 + 1e-6)) {
		if exponent := math.Log10(v); !tens || math.Abs(exponent-math.Round(exponent)) < 1e-6 {
			out = append(out, v)
		}
	}
	return out
}

// step is a round number between marks of a linear axis that ends at hi.
func step(hi float64) float64 { return above(hi / most) }

// below is the largest of …, 1, 2, 5, 10, … that is not above v, and above the smallest that is not below it.
func below(v float64) float64 {
	ten := math.Pow(10, math.Floor(math.Log10(v)))
	for _, n := range []float64{10, 5, 2} {
		if n*ten <= v*(1+1e-9) {
			return n * ten
		}
	}
	return ten
}

func above(v float64) float64 {
	ten := math.Pow(10, math.Floor(math.Log10(v)))
	for _, n := range []float64{1, 2, 5} {
		if n*ten >= v*(1-1e-9) {
			return n * ten
		}
	}
	return 10 * ten
}
