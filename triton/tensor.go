package triton

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// A Datatype is the element type of a tensor as the inference protocol spells
// it: FP32, not the TYPE_FP32 of a config.pbtxt.
type Datatype string

// The datatypes of the KServe v2 protocol; BF16 is Triton's addition.
const (
	Bool   Datatype = "BOOL"
	Uint8  Datatype = "UINT8"
	Uint16 Datatype = "UINT16"
	Uint32 Datatype = "UINT32"
	Uint64 Datatype = "UINT64"
	Int8   Datatype = "INT8"
	Int16  Datatype = "INT16"
	Int32  Datatype = "INT32"
	Int64  Datatype = "INT64"
	FP16   Datatype = "FP16"
	FP32   Datatype = "FP32"
	FP64   Datatype = "FP64"
	BF16   Datatype = "BF16"
	// Bytes elements are byte strings, each of a length of its own.
	Bytes Datatype = "BYTES"
)

// Size returns the bytes that one element takes: 0 for [Bytes], whose elements
// have no fixed size. It reports false for a datatype that it does not know.
func (d Datatype) Size() (int, bool) {
	switch d {
	case Bool, Uint8, Int8:
		return 1, true
	case Uint16, Int16, FP16, BF16:
		return 2, true
	case Uint32, Int32, FP32:
		return 4, true
	case Uint64, Int64, FP64:
		return 8, true
	case Bytes:
		return 0, true
	default:
		return 0, false
	}
}

// lengthPrefix is what precedes each element of a [Bytes] tensor: its length
// in four bytes, little-endian.
const lengthPrefix = 4

// A Tensor is a named array of elements.
type Tensor struct {
	Name     string
	Datatype Datatype
	// Shape includes the batch dimension where the model has one.
	Shape []int64
	// Data holds the elements in row-major order, little-endian; each element
	// of a [Bytes] tensor follows its length in four bytes.
	Data []byte
}

// NewFloat32 makes an [FP32] tensor; without a shape it has one dimension. It
// fails if shape has not as many elements as values.
func NewFloat32(name string, values []float32, shape ...int64) (Tensor, error) {
	data := make([]byte, 4*len(values))
	for i, v := range values {
		binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits(v))
	}
	return newTensor(name, FP32, data, len(values), shape)
}

// NewUint8 makes a [Uint8] tensor, such as an encoded picture; without a shape
// it has one dimension. The tensor shares data with the caller. It fails if
// shape has not as many elements as data.
func NewUint8(name string, data []byte, shape ...int64) (Tensor, error) {
	return newTensor(name, Uint8, data, len(data), shape)
}

func newTensor(name string, datatype Datatype, data []byte, elements int, shape []int64) (Tensor, error) {
	if len(shape) == 0 {
		shape = []int64{int64(elements)}
	}
	t := Tensor{Name: name, Datatype: datatype, Shape: slices.Clone(shape), Data: data}
	if err := t.Validate(); err != nil {
		return Tensor{}, err
	}
	return t, nil
}

// Elements returns the number of elements that the shape holds: 1 for no
// dimensions, 0 if one of them is 0. It fails for a negative dimension and for
// a product above 2⁶³−1.
func (t Tensor) Elements() (int64, error) {
	n := int64(1)
	for _, dim := range t.Shape {
		switch {
		case dim < 0:
			return 0, fmt.Errorf("tensor %s has a negative dimension in shape %v", t.Name, t.Shape)
		case dim > 0 && n > math.MaxInt64/dim:
			return 0, fmt.Errorf("tensor %s has a shape too large to count, %v", t.Name, t.Shape)
		}
		n *= dim
	}
	return n, nil
}

// Validate tells whether Data is as long as Datatype and Shape say.
func (t Tensor) Validate() error {
	size, ok := t.Datatype.Size()
	if !ok {
		return fmt.Errorf("tensor %s has the unknown datatype %q", t.Name, t.Datatype)
	}
	elements, err := t.Elements()
	if err != nil {
		return err
	}
	if t.Datatype == Bytes {
		_, err := t.ByteStrings()
		return err
	}
	// Compared by division: elements × size can overflow.
	if int64(len(t.Data)/size) != elements || len(t.Data)%size != 0 {
		return fmt.Errorf("tensor %s has %d bytes of data, but shape %v holds %d elements of %s, %d bytes each",
			t.Name, len(t.Data), t.Shape, elements, t.Datatype, size)
	}
	return nil
}

// Float32s returns the elements of an [FP32] tensor. It fails for another
// datatype and if Data and Shape disagree.
func (t Tensor) Float32s() ([]float32, error) {
	if t.Datatype != FP32 {
		return nil, fmt.Errorf("tensor %s is %s, not FP32", t.Name, t.Datatype)
	}
	if err := t.Validate(); err != nil {
		return nil, err
	}
	values := make([]float32, len(t.Data)/4)
	for i := range values {
		values[i] = math.Float32frombits(binary.LittleEndian.Uint32(t.Data[4*i:]))
	}
	return values, nil
}

// ByteStrings returns the elements of a [Bytes] tensor; they share Data. It
// fails for another datatype and if Data and Shape disagree.
func (t Tensor) ByteStrings() ([][]byte, error) {
	if t.Datatype != Bytes {
		return nil, fmt.Errorf("tensor %s is %s, not BYTES", t.Name, t.Datatype)
	}
	elements, err := t.Elements()
	if err != nil {
		return nil, err
	}
	// The shape is the sender's word; the data bounds what is worth allocating.
	if elements > int64(len(t.Data)/lengthPrefix) {
		return nil, fmt.Errorf("tensor %s has %d bytes of data, too few for the %d elements of shape %v",
			t.Name, len(t.Data), elements, t.Shape)
	}
	out := make([][]byte, 0, elements)
	rest := t.Data
	for i := range elements {
		if len(rest) < lengthPrefix {
			return nil, fmt.Errorf("tensor %s ends before the length of element %d of %d", t.Name, i, elements)
		}
		n := int64(binary.LittleEndian.Uint32(rest))
		rest = rest[lengthPrefix:]
		if n > int64(len(rest)) {
			return nil, fmt.Errorf("tensor %s ends inside element %d of %d: %d of its %d bytes are there",
				t.Name, i, elements, len(rest), n)
		}
		out = append(out, rest[:n:n])
		rest = rest[n:]
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("tensor %s has %d bytes after its last element", t.Name, len(rest))
	}
	return out, nil
}

// NewBytes makes a [Bytes] tensor; without a shape it has one dimension. It
// fails if shape has not as many elements as values, or if one of them is
// longer than the protocol can say, 2³²−1 bytes.
func NewBytes(name string, values [][]byte, shape ...int64) (Tensor, error) {
	var data []byte
	for i, v := range values {
		if uint64(len(v)) > math.MaxUint32 {
			return Tensor{}, fmt.Errorf("element %d of tensor %s has %d bytes, more than 4 GiB", i, name, len(v))
		}
		data = binary.LittleEndian.AppendUint32(data, uint32(len(v))) //nolint:gosec // bounded above
		data = append(data, v...)
	}
	return newTensor(name, Bytes, data, len(values), shape)
}
