package triton_test

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/triton"
)

func TestDatatypeSize(t *testing.T) {
	t.Parallel()
	for datatype, want := range map[triton.Datatype]int{
		triton.Bool: 1, triton.Uint8: 1, triton.Int8: 1,
		triton.Uint16: 2, triton.Int16: 2, triton.FP16: 2, triton.BF16: 2,
		triton.Uint32: 4, triton.Int32: 4, triton.FP32: 4,
		triton.Uint64: 8, triton.Int64: 8, triton.FP64: 8,
		triton.Bytes: 0,
	} {
		if got, ok := datatype.Size(); got != want || !ok {
			t.Errorf("%s.Size() = %d, %t; want %d, true", datatype, got, ok, want)
		}
	}
	if _, ok := triton.Datatype("TYPE_FP32").Size(); ok {
		t.Error("TYPE_FP32, a configuration's spelling, is taken for a datatype")
	}
}

func TestFloat32sRoundTrip(t *testing.T) {
	t.Parallel()
	want := []float32{0, -1.5, math.MaxFloat32, math.SmallestNonzeroFloat32, float32(math.Inf(-1)), 42}
	tensor, err := triton.NewFloat32("x", want, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tensor.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	if first := binary.LittleEndian.Uint32(tensor.Data[4:]); first != math.Float32bits(-1.5) {
		t.Errorf("the second element is %#x on the wire, not little-endian -1.5", first)
	}
}

func TestNewTensorShape(t *testing.T) {
	t.Parallel()
	tensor, err := triton.NewUint8("x", []byte{1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{3}, tensor.Shape); diff != "" {
		t.Errorf("shape (-want +got):\n%s", diff)
	}
	if _, err := triton.NewUint8("x", []byte{1, 2, 3}, 2, 2); err == nil {
		t.Error("3 bytes were taken for shape [2 2]")
	}
	if _, err := triton.NewFloat32("x", []float32{1}, 2); err == nil {
		t.Error("1 value was taken for shape [2]")
	}
}

func TestTensorValidate(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tensor triton.Tensor
		want   string // part of the error; empty for none
	}{
		"scalar":         {triton.Tensor{Datatype: triton.FP32, Data: make([]byte, 4)}, ""},
		"empty":          {triton.Tensor{Datatype: triton.FP32, Shape: []int64{0, 5}}, ""},
		"fits":           {triton.Tensor{Datatype: triton.FP16, Shape: []int64{2, 3}, Data: make([]byte, 12)}, ""},
		"short":          {triton.Tensor{Datatype: triton.FP32, Shape: []int64{2}, Data: make([]byte, 4)}, "4 bytes of data"},
		"half":           {triton.Tensor{Datatype: triton.FP32, Shape: []int64{1}, Data: make([]byte, 7)}, "7 bytes of data"},
		"negative":       {triton.Tensor{Datatype: triton.FP32, Shape: []int64{-1}, Data: make([]byte, 4)}, "negative dimension"},
		"two negatives":  {triton.Tensor{Datatype: triton.Uint8, Shape: []int64{-2, -2}, Data: make([]byte, 4)}, "negative dimension"},
		"product":        {triton.Tensor{Datatype: triton.Uint8, Shape: []int64{math.MaxInt64, 3}}, "too large"},
		"product is 2⁶⁴": {triton.Tensor{Datatype: triton.Uint8, Shape: []int64{1 << 32, 1 << 32}}, "too large"},
		"bytes overflow": {triton.Tensor{Datatype: triton.FP64, Shape: []int64{1 << 61}}, "0 bytes of data"},
		"datatype":       {triton.Tensor{Datatype: "FLOAT", Shape: []int64{0}}, "unknown datatype"},
		"BYTES":          {triton.Tensor{Datatype: triton.Bytes, Shape: []int64{1}, Data: []byte{1, 0, 0, 0, 'a'}}, ""},
		"BYTES short":    {triton.Tensor{Datatype: triton.Bytes, Shape: []int64{1}, Data: []byte{2, 0, 0, 0, 'a'}}, "ends inside element 0"},
		"BYTES prefix":   {triton.Tensor{Datatype: triton.Bytes, Shape: []int64{2}, Data: []byte{2, 0, 0, 0, 'a', 'b', 1, 0}}, "length of element 1"},
		"BYTES rest":     {triton.Tensor{Datatype: triton.Bytes, Shape: []int64{1}, Data: []byte{0, 0, 0, 0, 'a'}}, "1 bytes after"},
		"BYTES huge":     {triton.Tensor{Datatype: triton.Bytes, Shape: []int64{1 << 40}, Data: make([]byte, 8)}, "too few"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := c.tensor.Validate()
			switch {
			case c.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("error %v; want one with %q", err, c.want)
			}
		})
	}
}

func TestTensorOfAnotherType(t *testing.T) {
	t.Parallel()
	tensor, err := triton.NewUint8("x", make([]byte, 4))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tensor.Float32s(); err == nil {
		t.Error("UINT8 was read as FP32")
	}
	if _, err := tensor.ByteStrings(); err == nil {
		t.Error("UINT8 was read as BYTES")
	}
}

func TestByteStringsRoundTrip(t *testing.T) {
	t.Parallel()
	want := [][]byte{[]byte("15.3:504:COFFEE MUG"), {}, {0, 255}}
	tensor, err := triton.NewBytes("x", want, 1, 3)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tensor.ByteStrings()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("elements (-want +got):\n%s", diff)
	}
}

// FuzzFloat32s: what a server sends may be anything; it becomes as many values
// as its shape holds or an error.
func FuzzFloat32s(f *testing.F) {
	f.Add("FP32", int64(1), int64(2), make([]byte, 8))
	f.Add("FP32", int64(math.MinInt64), int64(-1), []byte{})
	f.Add("FP32", int64(1)<<62, int64(4), []byte{1, 2, 3})
	f.Add("BYTES", int64(1), int64(1), []byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, datatype string, a, b int64, data []byte) {
		tensor := triton.Tensor{Name: "x", Datatype: triton.Datatype(datatype), Shape: []int64{a, b}, Data: data}
		if elements, err := tensor.ByteStrings(); err == nil && int64(len(elements)) != a*b {
			t.Errorf("%d byte strings for shape %v", len(elements), tensor.Shape)
		}
		values, err := tensor.Float32s()
		if err != nil {
			return
		}
		if int64(len(values)) != a*b || 4*len(values) != len(data) {
			t.Fatalf("%d values from %d bytes for shape %v", len(values), len(data), tensor.Shape)
		}
		back, err := triton.NewFloat32("x", values, a, b)
		if err != nil {
			t.Fatal(err)
		}
		// NaN's payload may change on its way through a float register.
		if !slices.ContainsFunc(values, func(v float32) bool { return v != v }) && !slices.Equal(back.Data, data) {
			t.Errorf("%x became %x", data, back.Data)
		}
	})
}
