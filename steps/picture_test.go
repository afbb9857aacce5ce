package steps_test

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dalirun/dalirun"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
	"github.com/dalirun/dalirun/triton/tritontest"
)

// TestReferenceRefusesPicture checks that PyTorch's decoder makes a picture the user's to mend, under the user's name for it.
func TestReferenceRefusesPicture(t *testing.T) {
	t.Parallel()
	bad := statusOfBadPicture(t)
	says := "error: /dalirun/picture cannot be decoded as a picture: Corrupt JPEG data: 304 extraneous bytes before marker 0xd9"
	for name, tt := range map[string]struct {
		picture string
		status  int
		kind    pipeline.Kind
	}{
		"the user's picture":          {"pictures/my cat.jpg", bad, pipeline.Usage},
		"the picture that is carried": {"", bad, pipeline.ContainerFailed},
		"something else":              {"pictures/my cat.jpg", 2, pipeline.ContainerFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := cpuLocal(t)
			w.target.Picture.Name = tt.picture
			w.instead(steps.IDReference, prints(tt.status, says))
			f := fault(t, w.run(t, t.Context(), steps.IDReference), tt.kind)
			if tt.kind != pipeline.Usage {
				return
			}
			if want := "pictures/my cat.jpg cannot be decoded as a picture: Corrupt JPEG data: 304 extraneous bytes before marker 0xd9"; f.Error() != want {
				t.Errorf("got %q, want %q", f, want)
			}
			if f.Hint == "" || strings.Contains(f.Hint+f.Repeat+strings.Join(f.Tail, "\n"), w.dir) {
				t.Errorf("the fault has no hint, or names a folder of its own: %+v", f)
			}
		})
	}
}

// statusOfBadPicture returns the status with which the programs end where the picture is at fault.
func statusOfBadPicture(t *testing.T) int {
	t.Helper()
	program, err := dalirun.Assets.ReadFile("assets/python/picture.py")
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile(`(?m)^class BadPicture\(Problem\):\n(?:    .*\n|\n)*?    status = (\d+)$`).FindSubmatch(program)
	if match == nil {
		t.Fatal("picture.py gives BadPicture no status")
	}
	number, err := strconv.Atoi(string(match[1]))
	if err != nil {
		t.Fatal(err)
	}
	return number
}

// TestReferenceTells checks that a result says where nobody looked for damage that libjpeg only warns of.
func TestReferenceTells(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		picture, warnings string
		warns             bool
	}{
		"nobody looked":            {"cat.jpg", "not seen: there is no libturbojpeg here", true},
		"nobody looked at coffee":  {"", "not seen: there is no libturbojpeg here", false},
		"somebody looked":          {"cat.jpg", "none: libturbojpeg looked", false},
		"there is nothing to look": {"cat.png", "none: it is no JPEG", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := cpuLocal(t)
			w.target.Picture.Name = tt.picture
			w.instead(steps.IDReference, func(_ context.Context, spec container.Spec, out container.Streams) int {
				status := batch(spec, out, python)
				_, _ = out.Stdout.Write([]byte(`{"jpeg_warnings": "` + tt.warnings + `", "top1": 7}` + "\n"))
				return status
			})
			if err := w.run(t, t.Context(), steps.IDReference); err != nil {
				t.Fatal(err)
			}
			warned := slices.ContainsFunc(w.payloads, func(p pipeline.Payload) bool {
				warning, ok := p.(pipeline.Warning)
				return ok && warning.Text == "cat.jpg: what libjpeg may warn of, as of data that are missing, was not seen: there is no libturbojpeg here"
			})
			if warned != tt.warns {
				t.Errorf("warned: %t, want %t: %v", warned, tt.warns, w.payloads)
			}
		})
	}
}

// TestServeRefusesPicture checks that a server which answers another picture is not called unready because of the user's.
func TestServeRefusesPicture(t *testing.T) {
	t.Parallel()
	refused := status.Error(codes.InvalidArgument, "the picture cannot be decoded")
	broken := status.Error(codes.Internal, "the picture cannot be decoded now")
	gone := status.Error(codes.Internal, "the stub is gone")
	for name, tt := range map[string]struct {
		picture string
		answers []error // to the picture, by turns
		sample  error
		kind    pipeline.Kind
		ready   bool // there is no fault
	}{
		"the picture is at fault":            {"dog.tif", []error{refused, refused}, nil, pipeline.Usage, false},
		"the server is at fault":             {"dog.tif", []error{refused, refused}, gone, pipeline.NotReady, false},
		"the picture is the one carried":     {"", []error{refused, refused}, nil, pipeline.NotReady, false},
		"the server is at fault, by itself":  {"", []error{refused, refused}, gone, pipeline.NotReady, false},
		"the first request alone fails":      {"dog.tif", []error{broken, nil}, nil, 0, true},
		"it is refused at the second":        {"dog.tif", []error{broken, refused}, nil, pipeline.Usage, false},
		"the server fails, and refuses none": {"dog.tif", []error{broken, broken}, nil, pipeline.NotReady, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := cpuLocal(t)
			w.target.Picture = target.Picture{Name: tt.picture, Data: []byte("a picture that DALI cannot decode")}
			models := served(w.target.Lane, faults{})
			answers := tt.answers
			models[2] = tritontest.Classifier("ensemble_dali_resnet50", labels(), func(picture []byte) ([]float32, error) {
				if string(picture) == string(w.target.Picture.Data) {
					err := answers[0]
					answers = answers[1:]
					return make([]float32, classes), err
				}
				return make([]float32, classes), tt.sample
			})
			w.triton = sync.OnceValue(func() *tritontest.Server { return tritontest.New(t, models...) })
			err := w.run(t, t.Context(), steps.IDServe)
			if tt.ready {
				if err != nil {
					t.Error(err)
				}
				w.undo(t)
				return
			}
			f := fault(t, err, tt.kind)
			if !strings.Contains(f.Error(), "the picture cannot be decoded") || tt.kind == pipeline.Usage && !strings.HasPrefix(f.Error(), "dog.tif: ") {
				t.Errorf("the error is %q", f)
			}
			w.undo(t)
			select {
			case <-w.ends:
			case <-t.Context().Done():
				t.Error("the server did not end")
			}
		})
	}
}
