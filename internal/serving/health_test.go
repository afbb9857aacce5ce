package serving_test

import (
	"bytes"
	"context"
	"errors"
	"image/jpeg"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/triton"
	"github.com/dalirun/dalirun/triton/tritontest"
)

const ensemble = "ensemble_dali_resnet50"

// start is a server with the ensemble and its models, all loaded.
func start(t *testing.T, infer func(ctx context.Context) error) *tritontest.Server {
	t.Helper()
	top := tritontest.Classifier(ensemble, []string{"a", "b"}, nil)
	top.Infer = func(ctx context.Context, inputs []triton.Tensor) ([]triton.Tensor, error) {
		if err := infer(ctx); err != nil {
			return nil, err
		}
		batch := inputs[0].Shape[0]
		out, err := triton.NewFloat32("OUTPUT", make([]float32, 2*batch), batch, 2)
		return []triton.Tensor{out}, err
	}
	top.Requires = []string{"dali"}
	server := tritontest.New(t, top, tritontest.Model{Name: "dali"})
	server.MustLoad(ensemble)
	return server
}

func answers(context.Context) error { return nil }

func hangs(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// probe has deadlines that a server in this process keeps, and that a hanging one does not make long.
func probe(t *testing.T) serving.Probe {
	t.Helper()
	picture, err := serving.Picture()
	if err != nil {
		t.Fatal(err)
	}
	return serving.Probe{Model: ensemble, Picture: picture, Reply: 2 * time.Second, Within: 500 * time.Millisecond}
}

func judge(t *testing.T, p serving.Probe, host triton.Host) serving.Health {
	t.Helper()
	h, err := p.Judge(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestJudge(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		infer  func(context.Context) error
		become func(*tritontest.Server)
		want   serving.State
		model  string
		says   string
		ok     bool
		drains bool
	}{
		{"it answers", answers, nil, serving.Healthy, "", "", true, true},
		{
			"a killed stub", answers, func(s *tritontest.Server) { s.KillStub("dali") }, serving.Failing, ensemble,
			"in ensemble '" + ensemble + "', Stub process 'dali_0_0' is not healthy.", false, false,
		},
		{"a restart", answers, (*tritontest.Server).Restart, serving.Unloaded, "", "it was restarted and has no models loaded", false, false},
		{"a model that somebody unloaded", answers, func(s *tritontest.Server) {
			if err := s.Client(t).Unload(t.Context(), ensemble); err != nil {
				t.Error(err)
			}
		}, serving.Unloaded, ensemble, "it is UNAVAILABLE: unloaded", false, false},
		{"a model that hangs", hangs, nil, serving.Stuck, ensemble, "nobody got an answer within 500ms: it hangs, or it works on a large batch", false, true},
		{"a server that is gone", answers, (*tritontest.Server).Stop, serving.Silent, "", "it cannot be reached: ", false, false},
		{
			"a queue that is full", func(context.Context) error { return status.Error(codes.Unavailable, "Exceeds maximum queue size") },
			nil, serving.Busy, ensemble, "exceeds maximum queue size", true, true,
		},
		// What a tritonserver 2.51 says to every question after SIGTERM.
		{"a server that drains", answers, func(s *tritontest.Server) {
			s.Intercept(func(context.Context, string, string) error {
				return status.Error(codes.Unavailable, "Server not ready")
			})
		}, serving.Stopping, "", "it takes no requests: server not ready", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := start(t, tt.infer)
			if tt.become != nil {
				tt.become(server)
			}
			h := judge(t, probe(t), server)
			if h.State != tt.want || h.Model != tt.model || !strings.Contains(h.Reason, tt.says) || (tt.says == "") != (h.Reason == "") {
				t.Errorf("%+v; want %s of %q: %s", h, tt.want, tt.model, tt.says)
			}
			if h.OK() != tt.ok || h.Drains() != tt.drains {
				t.Errorf("%s: OK %t, Drains %t", h.State, h.OK(), h.Drains())
			}
			if want := map[bool]string{true: string(tt.want), false: "not healthy"}[tt.ok]; !strings.HasPrefix(h.String(), want) {
				t.Errorf("%q does not begin with %q", h, want)
			}
		})
	}
}

// address is a host with one port.
type address string

func (address) Name() string { return "address" }

func (a address) Dial(ctx context.Context, _ uint16) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", string(a))
}

// Nothing that needs no model is answered: a container that is paused accepts connections.
func TestJudgeSilent(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // only listened
	p := probe(t)
	p.Reply = 200 * time.Millisecond
	began := time.Now()
	h := judge(t, p, address(listener.Addr().String()))
	if h.State != serving.Silent || h.Reason != "it does not answer at all (waited 200ms): it hangs or is paused" {
		t.Errorf("%+v", h)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
}

// A batch fails as a whole where another client's picture was bad: the next one does not.
func TestJudgeAsksAgain(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	server := start(t, func(context.Context) error {
		if n.Add(1) == 1 {
			return errors.New("another client's picture is bad")
		}
		return nil
	})
	if h := judge(t, probe(t), server); h.State != serving.Healthy || n.Load() != 2 {
		t.Errorf("%+v after %d requests", h, n.Load())
	}
}

// A queue in front of the probe, or errors for others' pictures, are no failure as long as others get answers.
func TestJudgeBusy(t *testing.T) {
	t.Parallel()
	for name, probed := range map[string]func(context.Context) error{
		"a queue": hangs,
		"errors":  func(context.Context) error { return errors.New("a picture in the batch is bad") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var n atomic.Int64
			begun := make(chan struct{})
			server := start(t, func(ctx context.Context) error {
				switch n.Add(1) {
				case 1: // the probe's
					close(begun)
					<-ctx.Done()
					return ctx.Err()
				case 2: // another client's
					return nil
				default:
					return probed(ctx)
				}
			})
			done := make(chan error, 1)
			go func() {
				<-begun
				client := server.Client(t)
				_, err := client.Classify(t.Context(), ensemble, []byte("picture"), 1)
				done <- err
			}()
			h := judge(t, probe(t), server)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if h.State != serving.Busy || !strings.HasPrefix(h.Reason, "others were answered meanwhile: ") {
				t.Errorf("%+v", h)
			}
		})
	}
}

func TestJudgeEndsWithItsContext(t *testing.T) {
	t.Parallel()
	server := start(t, hangs)
	ctx, cancel := context.WithCancelCause(t.Context())
	want := errors.New("the user is impatient")
	server.Intercept(func(_ context.Context, rpc, _ string) error {
		if rpc == "ModelInfer" {
			cancel(want)
		}
		return nil
	})
	p := probe(t)
	p.Within = time.Minute
	if h, err := p.Judge(ctx, server); !errors.Is(err, want) {
		t.Errorf("%+v, %v; want %v", h, err, want)
	}
}

func watch(t *testing.T) serving.Watch {
	t.Helper()
	return serving.Watch{Probe: probe(t), Every: time.Millisecond, Retry: time.Millisecond, InARow: 3}
}

// One that restarts by itself is well; one that does not answer three times on end is not.
func TestWatch(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	server := start(t, func(context.Context) error {
		switch i := n.Add(1); {
		case i <= 4: // the four tries of two questions
			return errors.New("it is about to restart")
		case i <= 6:
			return nil
		default:
			return errors.New("it is gone for good")
		}
	})
	h, err := watch(t).Wait(t.Context(), server)
	if err != nil || h.State != serving.Failing || h.Reason != "it is gone for good" || n.Load() != 12 {
		t.Errorf("%+v, %v after %d requests", h, err, n.Load())
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	want := errors.New("Ctrl-C")
	var n atomic.Int64
	server := start(t, func(context.Context) error {
		if n.Add(1) == 10 {
			cancel(want)
		}
		return nil
	})
	if h, err := watch(t).Wait(ctx, server); !errors.Is(err, want) {
		t.Errorf("%+v, %v", h, err)
	}
	w := watch(t)
	w.Every = time.Hour
	if h, err := w.Wait(ctx, server); !errors.Is(err, want) {
		t.Errorf("between two questions: %+v, %v", h, err)
	}
}

// It costs next to nothing, and is a picture.
func TestPicture(t *testing.T) {
	t.Parallel()
	data, err := serving.Picture()
	if err != nil || len(data) > 4<<10 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	if _, err := jpeg.Decode(bytes.NewReader(data)); err != nil {
		t.Error(err)
	}
}

func TestMend(t *testing.T) {
	t.Parallel()
	start := []string{"serve", "--detach", "--workspace", "/a b/.dalirun", "--cache-dir=/c d", "--weights=random:7"}
	const want = "dalirun stop --workspace '/a b/.dalirun' && dalirun serve --detach --workspace '/a b/.dalirun' '--cache-dir=/c d' --weights=random:7"
	if got := serving.Mend("/a b/.dalirun", start); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got, want := owner.StopCommand("/x"), "dalirun stop --workspace /x"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
}

// A server of which nothing is listed is well if it answers all the same: somebody removed its folder, and it goes on.
func TestJudgeWithoutRepository(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		models []tritontest.Model
		rpc    string
		fails  error
		want   serving.Health
	}{
		"none at all": {nil, "", nil, serving.Health{State: serving.Unloaded, Reason: "its model repository is empty"}},
		"none at all, and it drains": {
			nil, "ModelReady", status.Error(codes.Unavailable, "Server not ready"),
			serving.Health{State: serving.Stopping, Reason: "it takes no requests: server not ready"},
		},
		"another model": {
			[]tritontest.Model{{Name: "other"}},
			"", nil,
			serving.Health{State: serving.Unloaded, Model: ensemble, Reason: "its model repository does not have it"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := tritontest.New(t, tt.models...)
			for _, m := range tt.models {
				server.MustLoad(m.Name)
			}
			server.Intercept(func(_ context.Context, rpc, _ string) error {
				if rpc == tt.rpc {
					return tt.fails
				}
				return nil
			})
			if diff := cmp.Diff(tt.want, judge(t, probe(t), server)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// The model is not loaded while another is: nobody loaded it, it is being loaded, or it cannot be.
func TestJudgeUnloaded(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		load   func(context.Context) error
		state  triton.State // that the load leads to; empty if there is none
		reason string
	}{
		"never loaded": {nil, "", "it is not loaded"},
		"being loaded": {hangs, triton.StateLoading, "it is LOADING"},
		"not loadable": {func(context.Context) error { return errors.New("no such file") }, triton.StateUnavailable, "it is UNAVAILABLE: Internal: no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			top := tritontest.Classifier(ensemble, []string{"a"}, nil)
			top.Load = tt.load
			server := tritontest.New(t, top, tritontest.Model{Name: "dali"})
			server.MustLoad("dali")
			if tt.state != "" {
				client := server.Client(t)
				go func() { _ = client.Load(t.Context(), ensemble) }() // it fails, or ends with the test
				await(t, server, tt.state)
			}
			h := judge(t, probe(t), server)
			if want := (serving.Health{State: serving.Unloaded, Model: ensemble, Reason: tt.reason}); h != want {
				t.Errorf("%+v, want %+v", h, want)
			}
		})
	}
}

// await waits until the ensemble is in a state.
func await(t *testing.T, server *tritontest.Server, state triton.State) {
	t.Helper()
	client := server.Client(t)
	for {
		index, err := client.RepositoryIndex(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(index, func(e triton.IndexEntry) bool { return e.Name == ensemble && e.State == state }) {
			return
		}
	}
}

// What becomes of the server while the inference is at work decides, and not that it got no answer.
func TestJudgeMeanwhile(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		infer error               // of the inference
		after func(n int64) error // of the nth question for statistics
		want  serving.State
		says  string
	}{
		"the model is gone for a moment": {
			status.Error(codes.NotFound, "Request for unknown model"), func(int64) error { return nil }, serving.Healthy, "",
		},
		"it begins to drain": {
			errors.New("cut off"), func(n int64) error {
				if n == 1 {
					return nil
				}
				return status.Error(codes.Unavailable, "Server exiting")
			}, serving.Stopping, "it takes no requests: server exiting",
		},
		"it fails whatever it is asked": {
			nil, func(int64) error { return status.Error(codes.Internal, "the disk is gone") }, serving.Failing, "the disk is gone",
		},
		"it does not know the model's figures": {
			nil, func(int64) error { return status.Error(codes.NotFound, "Request for unknown model") }, serving.Healthy, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := start(t, func(context.Context) error { return tt.infer })
			var n atomic.Int64
			server.Intercept(func(_ context.Context, rpc, _ string) error {
				if rpc != "ModelStatistics" {
					return nil
				}
				return tt.after(n.Add(1))
			})
			if h := judge(t, probe(t), server); h.State != tt.want || h.Reason != tt.says {
				t.Errorf("%+v, want %s: %s", h, tt.want, tt.says)
			}
		})
	}
}

// Help texts explain each state, once.
func TestStates(t *testing.T) {
	t.Parallel()
	seen := map[serving.State]bool{}
	for _, s := range serving.States() {
		if s.State == "" || s.Means == "" || seen[s.State] {
			t.Errorf("%q: %q", s.State, s.Means)
		}
		seen[s.State] = true
	}
	for _, s := range []serving.State{
		serving.Healthy, serving.Busy, serving.Stopping, serving.Starting, serving.Failing, serving.Stuck, serving.Unloaded,
		serving.Silent, serving.Ended, serving.NotJudged,
	} {
		if !seen[s] {
			t.Errorf("%s is not explained", s)
		}
	}
}

// A server that takes connections and ends them is no more there than one that takes none.
func TestJudgeEndedConnection(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // only listened
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // the test has ended
			}
			_ = conn.Close()
		}
	}()
	if h := judge(t, probe(t), address(listener.Addr().String())); h.State != serving.Silent || !strings.HasPrefix(h.Reason, "it cannot be reached: ") {
		t.Errorf("%+v", h)
	}
}
