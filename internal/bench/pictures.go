package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"google.golang.org/grpc"

	"github.com/dalirun/dalirun/triton"
)

// DialOptions are for the clients that [Pictures] send with: they take less CPU for requests of a picture's size.
func DialOptions() []grpc.DialOption {
	// A picture of a usual size goes out in one or two system calls rather than in many: measured with 41 KB, a request
	// takes 34 µs of CPU in place of 40.
	const writeBuffer = 64 << 10
	return []grpc.DialOption{grpc.WithWriteBufferSize(writeBuffer)}
}

// Pictures is a [Requester] that sends pictures to a model with one input, each in turn. A batch is one picture several
// times: pictures of different sizes do not share a tensor without being padded, which is what no user sends. Every
// request is encoded before the first is sent. Use [NewPictures] to make one.
type Pictures struct {
	clients []*triton.Client
	// prepared has a request for each picture, by the size of the batch.
	prepared map[int][]*triton.Prepared
}

// NewPictures asks a server for the input of a model and encodes requests for each size of batch that will be sent.
// Requests are spread evenly over the clients, of which there is at least one; they stay the caller's to close. The
// input is UINT8 with a row of bytes for each picture, or BYTES with an element for each; a model with others is an
// error, as is a batch of more than 1 for a model that takes none.
func NewPictures(
	ctx context.Context, clients []*triton.Client, model string, pictures [][]byte, batches ...int,
) (*Pictures, error) {
	if len(clients) == 0 || len(pictures) == 0 {
		return nil, fmt.Errorf("%d connections and %d pictures are too few to load a server", len(clients), len(pictures))
	}
	meta, err := clients[0].ModelMetadata(ctx, model)
	if err != nil {
		return nil, err
	}
	if len(meta.Inputs) != 1 {
		return nil, fmt.Errorf("model %s has %d inputs, not one for the picture", model, len(meta.Inputs))
	}
	p := &Pictures{clients: slices.Clone(clients), prepared: map[int][]*triton.Prepared{}}
	for _, picture := range pictures {
		tensor, err := pictureTensor(meta.Inputs[0], picture)
		if err != nil {
			return nil, fmt.Errorf("model %s: %w", model, err)
		}
		for _, batch := range slices.Compact(slices.Sorted(slices.Values(batches))) {
			if batch > 1 && len(tensor.Shape) == 1 {
				return nil, fmt.Errorf("model %s takes one picture in a request, not %d", model, batch)
			}
			prepared, err := triton.Prepare(triton.InferRequest{Model: model, Inputs: []triton.Tensor{tensor}}, batch)
			if err != nil {
				return nil, err
			}
			p.prepared[batch] = append(p.prepared[batch], prepared)
		}
	}
	return p, nil
}

// pictureTensor is a picture as a batch of one where the input has a batch dimension, else as it is.
func pictureTensor(input triton.TensorMetadata, picture []byte) (triton.Tensor, error) {
	t := triton.Tensor{Name: input.Name, Datatype: input.Datatype, Data: picture}
	element := int64(len(picture))
	switch input.Datatype {
	case triton.Uint8:
	case triton.Bytes:
		if uint64(len(picture)) > math.MaxUint32 {
			return t, errors.New("a picture has more than 4 GiB")
		}
		element = 1
		t.Data = binary.LittleEndian.AppendUint32(nil, uint32(len(picture))) //nolint:gosec // bounded above
		t.Data = append(t.Data, picture...)
	default:
		return t, fmt.Errorf("its input %s is of type %s, which no encoded picture is", input.Name, input.Datatype)
	}
	switch len(input.Shape) {
	case 1:
		t.Shape = []int64{element}
	case 2:
		t.Shape = []int64{1, element}
	default:
		return t, fmt.Errorf("its input %s has shape %v, not a row for each picture", input.Name, input.Shape)
	}
	return t, nil
}

// Request sends the n-th request. Its batch is one of those that were prepared.
func (p *Pictures) Request(ctx context.Context, n, batch int) error {
	prepared := p.prepared[batch]
	if len(prepared) == 0 {
		return fmt.Errorf("no request of %d pictures was prepared", batch)
	}
	_, err := p.clients[n%len(p.clients)].Send(ctx, prepared[n%len(prepared)])
	return err
}
