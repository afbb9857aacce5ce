package triton

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/dalirun/dalirun/triton/pb"
)

func TestDecodeResponseRefuses(t *testing.T) {
	t.Parallel()
	output := func(datatype string, shape ...int64) *pb.ModelInferResponse_InferOutputTensor {
		return &pb.ModelInferResponse_InferOutputTensor{Name: "OUTPUT", Datatype: datatype, Shape: shape}
	}
	type outputs = []*pb.ModelInferResponse_InferOutputTensor
	for name, test := range map[string]struct {
		answer *pb.ModelInferResponse
		want   string
	}{
		"typed contents": {&pb.ModelInferResponse{Outputs: outputs{output("FP32", 1)}}, "1 outputs, but raw contents for 0"},
		"raw alone":      {&pb.ModelInferResponse{RawOutputContents: [][]byte{{1}}}, "0 outputs, but raw contents for 1"},
		"too short":      {&pb.ModelInferResponse{Outputs: outputs{output("FP32", 2)}, RawOutputContents: [][]byte{{1, 2, 3, 4}}}, "4 bytes of data"},
		"no datatype":    {&pb.ModelInferResponse{Outputs: outputs{output("", 1)}, RawOutputContents: [][]byte{{1}}}, "unknown datatype"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := decodeResponse(test.answer)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v; want one with %q", err, test.want)
			}
		})
	}
}

func TestReason(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]string{
		"load failed for model 'm': no version\n;\n":                    "no version",
		"load failed for model 'other': no version":                     "load failed for model 'other': no version",
		"[request id: <id_unknown>] expected 1 inputs but got 0 inputs": "expected 1 inputs but got 0 inputs",
		"[request id: x":      "[request id: x",
		"Request for unknown": "request for unknown",
		"FP16 is unsupported": "FP16 is unsupported",
		"":                    "",
		"Ärger":               "ärger",
	} {
		if got := reason(message, "m"); got != want {
			t.Errorf("reason(%q) = %q; want %q", message, got, want)
		}
	}
}

func TestTransportReason(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]string{
		`connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`: "dial tcp 127.0.0.1:1: connect: connection refused",
		`last connection error: connection error: desc = "error reading server preface: EOF"`:                          "error reading server preface: EOF",
		`error reading from server: EOF`:                    "connection lost: EOF",
		`Request for model exceeded the maximum queue size`: "",
	} {
		got, ok := transportReason(message)
		if ok != (want != "") || (ok && got != want) {
			t.Errorf("transportReason(%q) = %q, %t; want %q", message, got, ok, want)
		}
	}
}

// BenchmarkInfer is the client's own part of an inference: from tensors to the
// bytes on the wire and back.
func BenchmarkInfer(b *testing.B) {
	for name, size := range map[string]int{"picture-100KB": 100_000, "batch-of-8-as-FP32": 8 * 3 * 224 * 224 * 4} {
		b.Run(name, func(b *testing.B) {
			input, err := NewUint8("INPUT", make([]byte, size), 1, int64(size))
			if err != nil {
				b.Fatal(err)
			}
			request := InferRequest{Model: "m", Inputs: []Tensor{input}}
			output, err := NewFloat32("OUTPUT", make([]float32, 1000), 1, 1000)
			if err != nil {
				b.Fatal(err)
			}
			answer, err := proto.Marshal(&pb.ModelInferResponse{
				Outputs:           []*pb.ModelInferResponse_InferOutputTensor{{Name: output.Name, Datatype: "FP32", Shape: output.Shape}},
				RawOutputContents: [][]byte{output.Data},
			})
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				encoded, err := encodeRequest(request)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := proto.Marshal(encoded); err != nil {
					b.Fatal(err)
				}
				var message pb.ModelInferResponse
				if err := proto.Unmarshal(answer, &message); err != nil {
					b.Fatal(err)
				}
				resp, err := decodeResponse(&message)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := resp.Outputs[0].Float32s(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A prepared request has the bytes of one that protobuf encoded whole.
func TestPrepareEncodes(t *testing.T) {
	t.Parallel()
	req := InferRequest{
		Model: "m", Version: "1", ID: "id",
		Inputs: []Tensor{
			{Name: "A", Datatype: Uint8, Shape: []int64{1, 2}, Data: []byte("xy")},
			{Name: "B", Datatype: Uint8, Shape: []int64{1, 0}},
			{Name: "C", Datatype: FP32, Shape: []int64{1, 1}, Data: []byte("1234")},
		},
		Outputs: []RequestedOutput{{Name: "OUTPUT", Classes: 5}},
	}
	for copies := 1; copies <= 3; copies++ {
		p, err := Prepare(req, copies)
		if err != nil {
			t.Fatal(err)
		}
		var got pb.ModelInferRequest
		if err := proto.Unmarshal(p.message.Materialize(), &got); err != nil {
			t.Fatal(err)
		}
		batch := req
		batch.Inputs = nil
		for _, input := range req.Inputs {
			input.Shape = []int64{int64(copies), input.Shape[1]}
			input.Data = bytes.Repeat(input.Data, copies)
			batch.Inputs = append(batch.Inputs, input)
		}
		want, err := encodeRequest(batch)
		if err != nil {
			t.Fatal(err)
		}
		// Empty data is equal to none.
		if !proto.Equal(&got, want) || p.Size() != len(p.message.Materialize()) {
			t.Errorf("%d copies: %v; want %v", copies, &got, want)
		}
		if req.Inputs[0].Shape[0] != 1 {
			t.Error("the caller's shape changed")
		}
	}
}
