//go:build integration

package integration

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/picture/picturetest"
	"github.com/dalirun/dalirun/triton"
)

const (
	goodJPEG = "00-good.jpg"
	goodPNG  = "00-good.png"
)

// pixels names the good picture whose pixels a file stores, where it stores the same ones.
var pixels = map[string]string{
	"two-exif-16-wide.jpg": goodJPEG, "two-exif-63-wide.jpg": goodJPEG,
	"exif-raw-profile-wide.png": goodPNG, "ppm.ppm": goodPNG,
}

// modelNames are the names of a model, its input and its output.
type modelNames struct{ model, input, output string }

func pictureModels() []modelNames {
	return []modelNames{{"dali", "DALI_INPUT_0", "DALI_OUTPUT_0"}, {"ensemble_dali_resnet50", "INPUT", "OUTPUT"}}
}

// raw is a way to ask a server that checks no picture. It returns triton.ErrInvalid where the server calls the request invalid.
type raw func(ctx context.Context, m modelNames, pictures ...[]byte) ([]float32, error)

// padded makes pictures one batch: zeros follow those that are shorter than the longest.
func padded(m modelNames, pictures [][]byte) (triton.Tensor, error) {
	longest := len(slices.MaxFunc(pictures, func(a, b []byte) int { return len(a) - len(b) }))
	batch := make([]byte, 0, longest*len(pictures))
	for _, p := range pictures {
		batch = append(append(batch, p...), make([]byte, longest-len(p))...)
	}
	return triton.NewUint8(m.input, batch, int64(len(pictures)), int64(longest))
}

func rawGRPC(client *triton.Client) raw {
	return func(ctx context.Context, m modelNames, pictures ...[]byte) ([]float32, error) {
		tensor, err := padded(m, pictures)
		if err != nil {
			return nil, err
		}
		response, err := client.Infer(ctx, triton.InferRequest{
			Model: m.model, Inputs: []triton.Tensor{tensor}, Outputs: []triton.RequestedOutput{{Name: m.output}},
		})
		if err != nil {
			return nil, err
		}
		answer, err := response.Output(m.output)
		if err != nil {
			return nil, err
		}
		return answer.Float32s()
	}
}

// rawHTTP asks by KServe's HTTP protocol with Triton's extension for binary tensors: docs/protocol/extension_binary_data.md of the server.
func rawHTTP(address string) raw {
	return func(ctx context.Context, m modelNames, pictures ...[]byte) ([]float32, error) {
		tensor, err := padded(m, pictures)
		if err != nil {
			return nil, err
		}
		type object map[string]any
		header, err := json.Marshal(object{
			"inputs":  []object{{"name": m.input, "datatype": "UINT8", "shape": tensor.Shape, "parameters": object{"binary_data_size": len(tensor.Data)}}},
			"outputs": []object{{"name": m.output, "parameters": object{"binary_data": true}}},
		})
		if err != nil {
			return nil, err
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/v2/models/"+m.model+"/infer",
			io.MultiReader(bytes.NewReader(header), bytes.NewReader(tensor.Data)))
		if err != nil {
			return nil, err
		}
		const split = "Inference-Header-Content-Length"
		request.Header.Set(split, strconv.Itoa(len(header)))
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(response.Body)
		if err := errors.Join(err, response.Body.Close()); err != nil {
			return nil, err
		}
		switch response.StatusCode {
		case http.StatusOK:
		case http.StatusBadRequest:
			return nil, fmt.Errorf("%w: %s", triton.ErrInvalid, body)
		default:
			return nil, fmt.Errorf("%s: %s", response.Status, body)
		}
		end, err := strconv.Atoi(response.Header.Get(split))
		if err != nil {
			return nil, err
		}
		values := make([]float32, len(body[end:])/4)
		for i := range values {
			values[i] = math.Float32frombits(binary.LittleEndian.Uint32(body[end+4*i:]))
		}
		return values, nil
	}
}

// pictureServer is a server of the CPU lane that a test asks in every way.
type pictureServer struct {
	name   string // its container
	ways   map[string]raw
	good   map[string][]byte    // pictures
	wanted map[string][]float32 // tensor or logits by model and good picture
	stubs  []string
	engine engine
}

// servePictures starts a server, which the end of the test stops, and asks it for what is right of the good pictures.
func (c cpu) servePictures(t *testing.T) *pictureServer {
	t.Helper()
	o := opts{Dir: t.TempDir(), Timeout: 40 * time.Minute}
	p := start(t, c.engine, o, c.args("serve")...)
	t.Cleanup(func() { run(t, c.engine, o, "stop") }) // no run sweeps the server of a workspace that is gone
	grpc := p.ready(t)
	_, rest, _ := strings.Cut(p.stdout.String(), "http ")
	address, _, _ := strings.Cut(rest, " ")
	client, err := triton.Dial(grpc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	servers := c.engine.containers(t, workspace(o.Dir))
	if len(servers) != 1 {
		t.Fatalf("containers: %v", servers)
	}
	s := &pictureServer{
		name: name(servers[0]), ways: map[string]raw{"gRPC": rawGRPC(client), "HTTP": rawHTTP(address)}, engine: c.engine,
		good:   map[string][]byte{goodJPEG: picturetest.Data(t, goodJPEG), goodPNG: picturetest.Data(t, goodPNG)},
		wanted: map[string][]float32{},
	}
	for _, m := range pictureModels() {
		for file, data := range s.good {
			if s.wanted[m.model+file], err = s.ways["gRPC"](t.Context(), m, data); err != nil {
				t.Fatal(err)
			}
		}
	}
	for { // until those that only start another program have done so
		s.stubs = s.processes(t, "triton_python_backend_stub")
		<-time.After(500 * time.Millisecond)
		if slices.Equal(s.stubs, s.processes(t, "triton_python_backend_stub")) {
			break
		}
	}
	return s
}

// processes are the IDs of the container's processes that run a program.
func (s *pictureServer) processes(t *testing.T, program string) []string {
	t.Helper()
	top, err := s.engine.client(t).ContainerTop(t.Context(), s.name, []string{"-eo", "pid,args"})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, row := range top.Processes {
		if len(row) == 2 && strings.Contains(row[1], program) {
			ids = append(ids, row[0])
		}
	}
	slices.Sort(ids)
	return ids
}

// same fails the test unless an answer is that of a good picture. Batches of other sizes round differently in the classifier's last bits.
func (s *pictureServer) right(t *testing.T, what string, m modelNames, file string, got []float32) {
	t.Helper()
	want := s.wanted[m.model+file]
	if len(got) != len(want) {
		t.Errorf("%s: %d values for %s, want %d", what, len(got), file, len(want))
		return
	}
	for i := range got {
		if math.Abs(float64(got[i]-want[i])) > 1e-3 {
			t.Errorf("%s: the answer for %s is another one: value %d is %g, want %g", what, file, i, got[i], want[i])
			return
		}
	}
}

// unharmed fails the test unless the models are those that were loaded, and answer.
func (s *pictureServer) unharmed(t *testing.T) {
	t.Helper()
	stubs := s.processes(t, "triton_python_backend_stub")
	isNew := func(id string) bool { return !slices.Contains(s.stubs, id) }
	if len(stubs) < 2 || slices.ContainsFunc(stubs, isNew) { // DALI's and the classifier's; one that was killed has another
		t.Errorf("the models' processes are %v, and were %v", stubs, s.stubs)
	}
	for _, m := range pictureModels() {
		for file, data := range s.good {
			got, err := s.ways["gRPC"](t.Context(), m, data)
			if err != nil {
				t.Fatal(err)
			}
			s.right(t, "at the end", m, file, got)
		}
	}
}

// TestPictures sends each picture that broke something as a client does that looks at none: alone, twice in a row, and between good ones.
func TestPictures(t *testing.T) {
	t.Parallel()
	s := cpuLane(t).servePictures(t)
	for _, row := range picturetest.Table() {
		data := picturetest.Data(t, row.File)
		for _, m := range pictureModels() {
			var first []float32
			for way, send := range s.ways {
				for range 2 {
					what := fmt.Sprintf("%s to %s by %s", row.File, m.model, way)
					got, err := send(t.Context(), m, data)
					judge(t, what, row, err)
					if first == nil {
						first = got
					}
					if row.Served == picturetest.Right && !slices.Equal(got, first) {
						t.Errorf("%s: the answer is another one than the first time", what)
					}
					if file, known := pixels[row.File]; known {
						s.right(t, what, m, file, got)
					}
				}
				s.between(t, way, m, row)
			}
		}
	}
	s.unharmed(t)
}

// judge holds an error, or that there is none, against a row.
func judge(t *testing.T, what string, row picturetest.Row, err error) {
	t.Helper()
	switch row.Served {
	case picturetest.Right:
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	case picturetest.Refused:
		if !errors.Is(err, triton.ErrInvalid) {
			t.Errorf("%s: %v, want %v", what, err, triton.ErrInvalid)
		}
	case picturetest.Unjudged:
		if err != nil && !errors.Is(err, triton.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// between sends a picture between two good ones in one request, which has one answer.
func (s *pictureServer) between(t *testing.T, way string, m modelNames, row picturetest.Row) {
	t.Helper()
	what := fmt.Sprintf("%s between good ones to %s by %s", row.File, m.model, way)
	got, err := s.ways[way](t.Context(), m, s.good[goodJPEG], picturetest.Data(t, row.File), s.good[goodPNG])
	judge(t, what, row, err)
	if err != nil {
		if !strings.Contains(err.Error(), "picture 2 of 3") {
			t.Errorf("%s: %v, want an error that says which it is", what, err)
		}
		return
	}
	third := len(got) / 3
	s.right(t, what, m, goodJPEG, got[:third])
	s.right(t, what, m, goodPNG, got[2*third:])
}

// TestManyClients lets 32 clients ask at once, every other one for the pictures that broke something.
func TestManyClients(t *testing.T) {
	t.Parallel()
	s := cpuLane(t).servePictures(t)
	var all sync.WaitGroup
	var answered atomic.Int64
	rows := picturetest.Table()
	for client := range 32 {
		m := pictureModels()[client/2%2]
		send := s.ways[[]string{"gRPC", "HTTP"}[client/4%2]]
		all.Go(func() {
			for turn := range len(rows) {
				if client%2 == 0 {
					row := rows[(turn+client)%len(rows)]
					_, err := send(t.Context(), m, picturetest.Data(t, row.File))
					judge(t, row.File, row, err)
					continue
				}
				file := []string{goodJPEG, goodPNG}[turn%2]
				got, err := send(t.Context(), m, s.good[file])
				if err != nil {
					t.Errorf("a good picture: %v", err)
					continue
				}
				s.right(t, "among others", m, file, got)
				answered.Add(1)
			}
		})
	}
	all.Wait()
	t.Logf("%d good pictures were answered right", answered.Load())
	s.unharmed(t)
}
