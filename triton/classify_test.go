package triton_test

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/dalirun/dalirun/triton"
)

var nan = float32(math.NaN())

func TestParseClass(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]triton.Class{
		"15.3:504:COFFEE MUG": {Index: 504, Value: 15.3, Label: "COFFEE MUG"},
		"0.000000:2":          {Index: 2},
		"-1.250000:1:":        {Index: 1, Value: -1.25},
		"1:0:one: or 1":       {Value: 1, Label: "one: or 1"},
		"1:0::":               {Value: 1, Label: ":"},
		"nan:2":               {Index: 2, Value: nan},
		"-nan:2":              {Index: 2, Value: nan},
		"inf:3":               {Index: 3, Value: float32(math.Inf(1))},
		"-inf:3":              {Index: 3, Value: float32(math.Inf(-1))},
		"1e99:3":              {Index: 3, Value: float32(math.Inf(1))},
	} {
		got, err := triton.ParseClass(text)
		if err != nil {
			t.Errorf("ParseClass(%q): %v", text, err)
			continue
		}
		if diff := gocmp.Diff(want, got, cmpopts.EquateNaNs()); diff != "" {
			t.Errorf("ParseClass(%q) (-want +got):\n%s", text, diff)
		}
	}
	for _, text := range []string{"", ":", "1", "1:", ":1", "x:1", "1:x", "1:-1", "1:+1", "1:4294967296", "1: 1", "1.0.0:1"} {
		if got, err := triton.ParseClass(text); err == nil {
			t.Errorf("ParseClass(%q) = %+v; want an error", text, got)
		}
	}
}

func TestTopK(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		values []float32
		k      int
		labels []string
		want   []triton.Class
	}{
		"largest first": {
			[]float32{0.5, -1, 3},
			2,
			[]string{"a", "b", "c"},
			[]triton.Class{{Index: 2, Value: 3, Label: "c"}, {Index: 0, Value: 0.5, Label: "a"}},
		},
		"k above n":        {[]float32{1, 2}, 9, nil, []triton.Class{{Index: 1, Value: 2}, {Index: 0, Value: 1}}},
		"k is 0":           {[]float32{1, 2}, 0, nil, nil},
		"k is negative":    {[]float32{1, 2}, -3, nil, nil},
		"no values":        {nil, 3, nil, nil},
		"equal keep order": {[]float32{1, 1, 1}, 2, nil, []triton.Class{{Index: 0, Value: 1}, {Index: 1, Value: 1}}},
		"too few labels":   {[]float32{1, 2}, 1, []string{"a"}, []triton.Class{{Index: 1, Value: 2}}},
		"NaN is last": {
			[]float32{nan, float32(math.Inf(-1)), 1},
			3, nil,
			[]triton.Class{{Index: 2, Value: 1}, {Index: 1, Value: float32(math.Inf(-1))}, {Index: 0, Value: nan}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := slices.Clone(c.values)
			got := triton.TopK(c.values, c.k, c.labels)
			if diff := gocmp.Diff(c.want, got, cmpopts.EquateNaNs()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := gocmp.Diff(before, c.values, cmpopts.EquateNaNs()); diff != "" {
				t.Errorf("the values were changed (-before +after):\n%s", diff)
			}
		})
	}
}

func TestSoftmax(t *testing.T) {
	t.Parallel()
	inf := float32(math.Inf(1))
	for name, c := range map[string]struct{ logits, want []float32 }{
		"none":      {[]float32{}, []float32{}},
		"one":       {[]float32{-7}, []float32{1}},
		"equal":     {[]float32{1, 1, 1, 1}, []float32{0.25, 0.25, 0.25, 0.25}},
		"ratio e":   {[]float32{1, 0}, []float32{0.7310586, 0.2689414}},
		"large":     {[]float32{1000, 0}, []float32{1, 0}},
		"infinite":  {[]float32{inf, 5, inf}, []float32{0.5, 0, 0.5}},
		"all minus": {[]float32{-inf, -inf}, []float32{0.5, 0.5}},
		"NaN":       {[]float32{1, nan}, []float32{nan, nan}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := triton.Softmax(c.logits)
			if diff := gocmp.Diff(c.want, got, cmpopts.EquateNaNs(), cmpopts.EquateApprox(0, 1e-7)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzParseClass: whatever a server sends is a class, which reads the same once
// more, or an error.
func FuzzParseClass(f *testing.F) {
	for _, s := range []string{"15.3:504:COFFEE MUG", "nan:2", "-nan:0:x", "1:0:a:b", "::", "1e999:2147483647", "0x1p-2:1", "1:2147483648"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		class, err := triton.ParseClass(s)
		if err != nil {
			return
		}
		if class.Index < 0 {
			t.Fatalf("%q has index %d", s, class.Index)
		}
		line := fmt.Sprintf("%v:%d:%s", class.Value, class.Index, class.Label)
		again, err := triton.ParseClass(line)
		if err != nil {
			t.Fatalf("%q, written as %q: %v", s, line, err)
		}
		if diff := gocmp.Diff(class, again, cmpopts.EquateNaNs()); diff != "" {
			t.Errorf("%q, written as %q (-first +second):\n%s", s, line, diff)
		}
	})
}

// FuzzTopK: the result is ordered, has each index at most once and leaves
// nothing larger out.
func FuzzTopK(f *testing.F) {
	f.Add([]byte{0, 0, 192, 127, 0, 0, 128, 63}, 1) // NaN, 1
	f.Add([]byte{0, 0, 128, 255, 0, 0, 192, 255, 0, 0, 0, 128, 0, 0, 0, 0}, 9)
	f.Add([]byte{}, math.MinInt)
	f.Fuzz(func(t *testing.T, data []byte, k int) {
		values := make([]float32, len(data)/4)
		for i := range values {
			values[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		}
		got := triton.TopK(values, k, nil)
		if want := max(0, min(k, len(values))); len(got) != want {
			t.Fatalf("%d classes of %d values for k = %d", len(got), len(values), k)
		}
		seen := make(map[int]bool)
		for i, c := range got {
			if seen[c.Index] {
				t.Errorf("index %d comes twice", c.Index)
			}
			seen[c.Index] = true
			if cmp.Compare(c.Value, values[c.Index]) != 0 {
				t.Errorf("class %d has value %v; at index %d is %v", i, c.Value, c.Index, values[c.Index])
			}
			if i > 0 && cmp.Compare(got[i-1].Value, c.Value) < 0 {
				t.Errorf("%v comes before %v", got[i-1].Value, c.Value)
			}
		}
		if len(got) == 0 {
			return
		}
		for i, v := range values {
			if !seen[i] && cmp.Compare(v, got[len(got)-1].Value) > 0 {
				t.Errorf("%v at index %d was left out for %v", v, i, got[len(got)-1].Value)
			}
		}
	})
}
