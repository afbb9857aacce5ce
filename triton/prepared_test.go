package triton_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dalirun/dalirun/triton"
	"github.com/dalirun/dalirun/triton/tritontest"
)

// What is sent is what Infer would send, also from several goroutines, and of a batch each element.
func TestSend(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen []string
	server := tritontest.New(t, tritontest.Classifier("m", []string{"a", "b"}, func(picture []byte) ([]float32, error) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, string(picture))
		return []float32{1, 2}, nil
	}))
	server.MustLoad("m")
	c := server.Client(t)
	p, err := triton.Prepare(pictureRequest(t, "picture"), 1)
	if err != nil {
		t.Fatal(err)
	}
	three, err := triton.Prepare(pictureRequest(t, "three"), 3)
	if err != nil {
		t.Fatal(err)
	}
	if p.Size() < len("picture") || three.Size() < 3*len("three") {
		t.Errorf("sizes %d and %d", p.Size(), three.Size())
	}
	var wg sync.WaitGroup
	for range 4 {
		for _, prepared := range []*triton.Prepared{p, three} {
			wg.Go(func() {
				if size, err := c.Send(within(t, 10*time.Second), prepared); err != nil || size == 0 {
					t.Errorf("send: %d bytes, %v", size, err)
				}
			})
		}
	}
	wg.Wait()
	slices.Sort(seen)
	if want := slices.Concat(slices.Repeat([]string{"picture"}, 4), slices.Repeat([]string{"three"}, 12)); !slices.Equal(seen, want) {
		t.Errorf("the server saw %q; want %q", seen, want)
	}
}

func pictureRequest(t *testing.T, picture string) triton.InferRequest {
	t.Helper()
	tensor, err := triton.NewUint8("INPUT", []byte(picture), 1, int64(len(picture)))
	if err != nil {
		t.Fatal(err)
	}
	return triton.InferRequest{Model: "m", Inputs: []triton.Tensor{tensor}}
}

func TestPrepareRefuses(t *testing.T) {
	t.Parallel()
	flat := pictureRequest(t, "x")
	flat.Inputs[0].Shape = []int64{1}
	flat.Inputs[0].Name = "FLAT"
	wide := pictureRequest(t, "xy")
	wide.Inputs[0].Shape = []int64{2, 1}
	long := pictureRequest(t, "x")
	long.Inputs[0].Data = nil
	for name, test := range map[string]struct {
		request triton.InferRequest
		copies  int
		want    string
	}{
		"no copies": {flat, 0, "0 copies are asked for"},
		"no batch":  {wide, 2, "shape [2 1], not a batch of 1"},
		"no data":   {long, 1, "0 bytes of data"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := triton.Prepare(test.request, test.copies)
			if !errors.Is(err, triton.ErrInvalid) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v; want an ErrInvalid with %q", err, test.want)
			}
		})
	}
	if p, err := triton.Prepare(triton.InferRequest{Model: "m"}, 1); err != nil || p.Size() == 0 {
		t.Errorf("without inputs: %v", err)
	}
}

// Errors have the classes of Infer's.
func TestSendFails(t *testing.T) {
	t.Parallel()
	server := tritontest.New(t, tritontest.Classifier("m", []string{"a"}, func([]byte) ([]float32, error) {
		return []float32{1}, nil
	}))
	c := server.Client(t)
	p, err := triton.Prepare(pictureRequest(t, "picture"), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Send(within(t, 10*time.Second), p); !errors.Is(err, triton.ErrNotFound) {
		t.Errorf("not loaded: %v", err)
	}
	server.MustLoad("m")
	many, err := triton.Prepare(pictureRequest(t, "picture"), 9)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Send(within(t, 10*time.Second), many); !errors.Is(err, triton.ErrInvalid) || !strings.Contains(err.Error(), "batch-size must be <= 8") {
		t.Errorf("a batch of 9: %v", err)
	}
	ended, cancel := context.WithCancel(within(t, 10*time.Second))
	cancel()
	if _, err := c.Send(ended, p); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	server.Stop()
	if _, err := c.Send(within(t, 10*time.Second), p); !errors.Is(err, triton.ErrUnavailable) {
		t.Errorf("stopped: %v", err)
	}
}
