package parity_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/parity"
)

const side = 64

// picture is a made-up picture in colours from 0 to 1, three planes.
func picture() []float32 {
	p := make([]float32, 3*side*side)
	for i := range p {
		c, y, x := i/(side*side), i/side%side, i%side
		p[i] = float32(0.5 + 0.2*math.Sin(float64(x*(c+1))/9) + 0.2*math.Cos(float64(y)/(7+float64(2*c))) + 0.05*float64((x*y)%5)/5)
	}
	return p
}

// normalized is what preprocessing makes of it, with the noise of another decoder.
func normalized(p []float32, order [3]int, mean, std [3]float32, noise float32) []float32 {
	random := rand.New(rand.NewPCG(1, 2))
	out := make([]float32, len(p))
	plane := len(p) / 3
	for c := range 3 {
		for i := range plane {
			out[c*plane+i] = (p[order[c]*plane+i]-mean[c])/std[c] + noise*(random.Float32()*2-1)
		}
	}
	return out
}

func TestPreprocessingCause(t *testing.T) {
	t.Parallel()
	rgb, mean, std := [3]int{0, 1, 2}, [3]float32{0.485, 0.456, 0.406}, [3]float32{0.229, 0.224, 0.225}
	p := picture()
	want := normalized(p, rgb, mean, std, 0)
	mirrored, blurred := make([]float32, len(p)), make([]float32, len(p))
	for i := range p {
		mirrored[i] = p[i/side*side+side-1-i%side]
		blurred[i] = (p[i] + p[max(i-1, 0)] + p[max(i-2, 0)]) / 3
	}
	const noise = 0.01
	for name, tt := range map[string]struct {
		got  []float32
		want string
	}{
		"another decoder":  {normalized(p, rgb, mean, std, noise), ""},
		"swapped channels": {normalized(p, [3]int{2, 1, 0}, mean, std, noise), "the channels are in another order: blue, green, red for red, green, blue"},
		"wrong mean":       {normalized(p, rgb, [3]float32{0.5, 0.5, 0.5}, std, noise), "the mean is another one: values are off by -0.06"},
		"means off by 0.02": {
			normalized(p, rgb, [3]float32{0.505, 0.476, 0.426}, std, noise),
			"the mean is another one: values are off by -0.08",
		},
		"no mean":        {normalized(p, rgb, [3]float32{}, std, noise), "the mean is another one: values are off by +2.1"},
		"wrong std":      {normalized(p, rgb, mean, [3]float32{0.5, 0.5, 0.5}, noise), "the deviation (std) is another one: 2.18"},
		"mirrored":       {normalized(mirrored, rgb, mean, std, noise), "the picture is mirrored"},
		"another resize": {normalized(blurred, rgb, mean, std, noise), "pixels are elsewhere or blended otherwise"},
		"not a number":   {append(normalized(p, rgb, mean, std, noise)[:len(p)-1], float32(math.NaN())), "values are NaN or infinite"},
		"of other size":  {want[:len(want)-1], ""},
	} {
		if got := parity.PreprocessingCause(tt.got, want); !strings.HasPrefix(got, tt.want) || (tt.want == "") != (got == "") {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
