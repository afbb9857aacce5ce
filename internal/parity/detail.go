package parity

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// channels of a tensor: red, green, blue.
const channels = 3

const (
	// sameResidual is how far, as a root mean square in normalized units, two tensors of one picture are apart once
	// scales and offsets are taken out: two decoders have a mean absolute difference of 0.005, see [Bounds], and
	// another interpolation one of 0.021.
	sameResidual = 0.015
	// scaleOff and offsetOff are from where a channel's scale and offset are another one. Decoders leave 0.002.
	scaleOff  = 0.02
	offsetOff = 0.01
)

// PreprocessingCause says in a clause which part of the preprocessing makes a tensor differ from the one that was
// wanted, both 3×side×side and normalized: the order of the channels, the mean, the deviation, the orientation, or
// else what moves pixels. It is empty if the tensors have no such form, or differ by no more than two decoders do.
func PreprocessingCause(got, want []float32) string {
	width := int(math.Sqrt(float64(len(want) / channels)))
	if len(got) != len(want) || len(want) == 0 || len(want) != channels*width*width {
		return ""
	}
	if slices.ContainsFunc(got, func(v float32) bool { return !finite(float64(v)) }) {
		return "values are NaN or infinite"
	}
	plane := len(want) / channels
	for _, placed := range []struct {
		name string
		from func(i int) int // the pixel of the wanted plane that is at i
	}{
		{"", func(i int) int { return i }},
		{"the picture is mirrored", func(i int) int { return i/width*width + width - 1 - i%width }},
		{"the picture is upside down", func(i int) int { return plane - width - i/width*width + i%width }},
	} {
		for _, order := range [][channels]int{{0, 1, 2}, {2, 1, 0}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}} {
			fits, ok := fitAll(got, want, order, placed.from)
			if !ok {
				continue
			}
			var parts []string
			if order != [channels]int{0, 1, 2} {
				names := []string{"red", "green", "blue"}
				parts = append(parts, fmt.Sprintf("the channels are in another order: %s, %s, %s for red, green, blue",
					names[order[0]], names[order[1]], names[order[2]]))
			} else {
				parts = normalization(fits)
			}
			if placed.name != "" {
				parts = append(parts, placed.name)
			}
			return strings.Join(parts, "; ")
		}
	}
	return "pixels are elsewhere or blended otherwise: resize, interpolation or crop is another one, or the picture is"
}

// line is got = scale × want + offset, as well as it fits.
type line struct{ scale, offset float64 }

// fitAll fits each channel to the wanted one that order names. ok says that nothing else is different.
func fitAll(got, want []float32, order [channels]int, from func(int) int) (fits [channels]line, ok bool) {
	plane := len(want) / channels
	for c := range channels {
		g, w := got[c*plane:(c+1)*plane], want[order[c]*plane:(order[c]+1)*plane]
		var residual float64
		fits[c], residual = fit(g, w, from)
		if residual > sameResidual*max(1, fits[c].scale) || fits[c].scale <= 0 {
			return fits, false
		}
	}
	return fits, true
}

// fit is the line of least squares, and the root mean square of what it leaves.
func fit(got, want []float32, from func(int) int) (l line, residual float64) {
	n := float64(len(got))
	var sumW, sumG, sumWW, sumWG float64
	for i, g := range got {
		w := float64(want[from(i)])
		sumW, sumG = sumW+w, sumG+float64(g)
		sumWW, sumWG = sumWW+w*w, sumWG+w*float64(g)
	}
	if spread := n*sumWW - sumW*sumW; spread > 0 { // else it is of one colour, and any scale fits
		l.scale = (n*sumWG - sumW*sumG) / spread
	} else {
		l.scale = 1
	}
	l.offset = (sumG - l.scale*sumW) / n
	var squares float64
	for i, g := range got {
		d := float64(g) - l.scale*float64(want[from(i)]) - l.offset
		squares += d * d
	}
	return l, math.Sqrt(squares / n)
}

// normalization says what of mean and deviation is another one.
func normalization(fits [channels]line) []string {
	var scaled, moved bool
	var scales, offsets []string
	for _, l := range fits {
		scaled = scaled || math.Abs(l.scale-1) > scaleOff
		moved = moved || math.Abs(l.offset) > offsetOff
		scales = append(scales, fmt.Sprintf("%.3f", 1/l.scale))
		offsets = append(offsets, fmt.Sprintf("%+.3f", l.offset))
	}
	switch {
	case scaled:
		return []string{fmt.Sprintf("the deviation (std) is another one: %s times the wanted one for red, green, blue",
			strings.Join(scales, ", "))}
	case moved:
		return []string{fmt.Sprintf("the mean is another one: values are off by %s for red, green, blue, in deviations",
			strings.Join(offsets, ", "))}
	default:
		return nil
	}
}
