package classify_test

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/png"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dalirun/dalirun/internal/classify"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/triton"
	"github.com/dalirun/dalirun/triton/tritontest"
)

const model = "ensemble"

// picture is a file with a picture.
func picture(tb testing.TB) string {
	tb.Helper()
	var encoded bytes.Buffer
	if err := png.Encode(&encoded, image.NewRGBA(image.Rect(0, 0, 8, 8))); err != nil {
		tb.Fatal(err)
	}
	return write(tb, "cat.png", encoded.String())
}

func write(tb testing.TB, name, text string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// classifier is the address of a server whose model answers with two scores.
func classifier(tb testing.TB, answer func([]byte) ([]float32, error)) string {
	tb.Helper()
	s := tritontest.New(tb, tritontest.Classifier(model, []string{"cat", "dog"}, answer))
	s.MustLoad(model)
	return s.Addr()
}

func cat([]byte) ([]float32, error) { return []float32{2, 1}, nil }

// nobody is a [classify.Finder] that must not be asked.
type nobody struct{ t testing.TB }

func (n nobody) Workspace(context.Context) (string, error) {
	n.t.Error("the workspace is looked for")
	return "", nil
}

func (n nobody) Servers(context.Context) (serving.Servers, error) {
	n.t.Error("the container engine is asked")
	return serving.Servers{}, nil
}

// engine is a [classify.Finder] of servers in a workspace.
type engine struct {
	workspace string
	servers   serving.Servers
	err       error
}

func (e engine) Workspace(context.Context) (string, error) { return e.workspace, nil }

func (e engine) Servers(context.Context) (serving.Servers, error) { return e.servers, e.err }

func request(url string) classify.Request {
	return classify.Request{URL: url, Model: model, Top: 1, Timeout: time.Minute, Jobs: 1, Ensemble: "the_ensemble"}
}

func wantFault(t *testing.T, err error, kind pipeline.Kind, words, hint string) {
	t.Helper()
	fault, ok := errors.AsType[*pipeline.Fault](err)
	if !ok || fault.Kind != kind || !strings.Contains(err.Error(), words) || !strings.Contains(fault.Hint, hint) {
		t.Errorf("%+v, want %q with the hint %q", err, words, hint)
	}
}

// An answer is a record: the classes with the labels of the server, or of a file.
func TestAsk(t *testing.T) {
	t.Parallel()
	url, name := classifier(t, cat), picture(t)
	for label, text := range map[string]string{"cat": "", "Katze": "\ufeffKatze\r\nHund\r\n"} {
		r := request(url)
		if text != "" {
			r.Labels = write(t, "labels.txt", text)
		}
		asker := classify.New(t.Context(), r, &userfile.Reader{}, nobody{t})
		defer asker.Close()
		var source classify.Source
		var lines []string
		asker.OnServer = func(s classify.Source) { source = s }
		asker.OnDescription = func(l []string) { lines = l }
		record, err := asker.Ask(t.Context(), name)
		if err != nil || asker.Err() != nil || record.Image != name || record.Model != model || len(record.Classes) != 1 ||
			record.Classes[0].Label != label || record.Server != url {
			t.Errorf("%s: %+v, %v, %v", label, record, err, asker.Err())
		}
		if diff := cmp.Diff(record.Source, source); diff != "" || len(lines) < 3 || !strings.HasPrefix(lines[0], url+": ") {
			t.Errorf("%s: it said %q of the server, %s", label, lines, diff)
		}
	}
}

// What is wrong with the request ends it before a server is looked for.
func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change    func(*classify.Request)
		err, hint string
	}{
		"no time":     {func(r *classify.Request) { r.Timeout = 0 }, "--timeout 0s is out of range", "name a duration above 0"},
		"no labels":   {func(r *classify.Request) { r.Labels = write(t, "l", " \n") }, "--labels ", "name a file with one label a line"},
		"no such one": {func(r *classify.Request) { r.Labels = "/nowhere/l" }, "--labels /nowhere/l: no such file", "check the name"},
	} {
		r := request("127.0.0.1:1")
		c.change(&r)
		asker := classify.New(t.Context(), r, &userfile.Reader{}, nobody{t})
		wantFault(t, asker.Err(), pipeline.Usage, c.err, c.hint)
		if _, err := asker.Ask(t.Context(), "/nowhere/cat.png"); !errors.Is(err, asker.Err()) {
			t.Errorf("%s: the picture's error is %v", name, err)
		}
	}
}

// A picture that is refused leaves the others; a model that takes none, labels that do not fit, and a server that is not
// there, leave none.
func TestAskFails(t *testing.T) {
	t.Parallel()
	name := picture(t)
	notANumber := classifier(t, func([]byte) ([]float32, error) { return []float32{float32(math.NaN()), 1}, nil })
	broken := classifier(t, func([]byte) ([]float32, error) { return nil, errors.New("the stub is dead") })
	unloaded, impatient := request(broken), request(classifier(t, func([]byte) ([]float32, error) {
		<-t.Context().Done()
		return []float32{1, 2}, nil
	}))
	refusing := request(classifier(t, func([]byte) ([]float32, error) {
		return nil, status.Error(codes.InvalidArgument, "no such picture")
	}))
	numbers := tritontest.New(t, tritontest.Model{Name: model, Inputs: []triton.TensorMetadata{
		{Name: "INPUT", Datatype: triton.FP32, Shape: []int64{-1, 3}},
	}})
	numbers.MustLoad(model)
	unloaded.Model, impatient.Timeout = "another", 20*time.Millisecond
	for _, c := range []struct {
		name    string
		request classify.Request
		picture string
		kind    pipeline.Kind
		words   string
		hint    string
		goesOn  bool
	}{
		{"no picture", request(classifier(t, cat)), write(t, "p", "x"), pipeline.Usage, "p: ", "", true},
		{"no number", request(notANumber), name, pipeline.NotReady, "values that are no numbers (NaN)", "", true},
		{"broken", request(broken), name, pipeline.NotReady, "the stub is dead", "", true},
		{"not loaded", unloaded, name, pipeline.NotReady, "another", "--model names a model that the server has loaded", true},
		{"too slow", impatient, name, pipeline.NotReady, "ensemble", "give it longer with --timeout", true},
		{"refused", refusing, name, pipeline.Usage, "cat.png: ", "save the picture again as another kind, such as PNG", true},
		{"takes none", request(numbers.Addr()), name, pipeline.Usage, "ensemble", "as the_ensemble does", false},
		{"no server", request("127.0.0.1:1"), name, pipeline.NotReady, "127.0.0.1:1", "is a server at 127.0.0.1:1?", false},
		{"no address", request("\x7f"), name, pipeline.Usage, "--url: ", "as in --url localhost:8001", false},
	} {
		servers := engine{servers: serving.Servers{Runtime: &containertest.Fake{}}}
		asker := classify.New(t.Context(), c.request, &userfile.Reader{}, servers)
		defer asker.Close()
		_, err := asker.Ask(t.Context(), c.picture)
		wantFault(t, err, c.kind, c.words, c.hint)
		if (asker.Err() == nil) != c.goesOn {
			t.Errorf("%s: %v stops the others", c.name, asker.Err())
		}
	}
	few := request(classifier(t, cat))
	few.Labels = write(t, "labels.txt", "cat\n")
	asker := classify.New(t.Context(), few, &userfile.Reader{}, nobody{t})
	defer asker.Close()
	_, err := asker.Ask(t.Context(), name)
	wantFault(t, err, pipeline.Usage, "has 1 label, and ensemble has 2 classes", "one label a line for each class")
	if !errors.Is(asker.Err(), err) {
		t.Errorf("it goes on after %v", err)
	}
	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stopped)
	asker = classify.New(t.Context(), request("127.0.0.1:1"), &userfile.Reader{}, nobody{t})
	if _, err := asker.Ask(ctx, name); !errors.Is(err, stopped) || !errors.Is(asker.Err(), stopped) {
		t.Errorf("stopped: %v", err)
	}
}

// Without an address the workspace's server is asked, and what its files say of it is told.
func TestAskWorkspace(t *testing.T) {
	t.Parallel()
	name, workspace := picture(t), t.TempDir()
	me := owner.Identity{Host: "here", Boot: "b", Now: time.Now()}
	seeded := true
	if err := owner.WriteServer(workspace, owner.ServerFile{
		Container: "id", Run: "r1", Served: owner.Served{Lane: "cpu", Weights: "random:7", LabelsMeanNothing: &seeded}, Repository: t.TempDir(),
	}); err != nil {
		t.Fatal(err)
	}
	if err := owner.WriteBuilt(workspace, owner.Built{Run: "r1", Repository: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	fake := published{at: netip.MustParseAddrPort(classifier(t, cat)), labels: container.Labels{
		container.LabelRun: "r1", container.LabelHost: me.Host, container.LabelBoot: me.Boot, container.LabelWorkspace: workspace,
		container.LabelStep: "serve", container.LabelRole: string(container.RoleServer),
	}}
	found := engine{workspace: workspace, servers: serving.Servers{Runtime: fake, Me: me, Step: "serve", Model: model}}
	asker := classify.New(t.Context(), request(""), &userfile.Reader{}, found)
	defer asker.Close()
	record, err := asker.Ask(t.Context(), name)
	if err != nil || record.Server != fake.at.String() || record.Lane != "cpu" || len(record.Warnings) != 2 ||
		!strings.Contains(record.Warnings[0], serving.LabelsMeanNothing) || !strings.Contains(record.Warnings[1], "does not serve what was last built") {
		t.Errorf("%+v, %v", record, err)
	}
	found.workspace = t.TempDir()
	none := classify.New(t.Context(), request(""), &userfile.Reader{}, found)
	defer none.Close()
	_, err = none.Ask(t.Context(), name)
	wantFault(t, err, pipeline.NotReady, "no server runs in "+found.workspace, "--url HOST:PORT")
	found.err = errors.New("no container engine")
	ill := classify.New(t.Context(), request(""), &userfile.Reader{}, found)
	defer ill.Close()
	if _, err := ill.Ask(t.Context(), name); !errors.Is(err, found.err) {
		t.Errorf("%v", err)
	}
}

// published is a [serving.Runtime] with one server.
type published struct {
	serving.Runtime

	at     netip.AddrPort
	labels container.Labels
}

func (p published) List(_ context.Context, want container.Labels) ([]container.Summary, error) {
	if w := want[container.LabelWorkspace]; w != "" && w != p.labels[container.LabelWorkspace] {
		return nil, nil
	}
	ports := map[uint16]netip.AddrPort{triton.PortGRPC: p.at}
	return []container.Summary{{ID: "id", Name: "server", Running: true, Labels: p.labels, Ports: ports}}, nil
}

// Open returns the server.
func (p published) Open(context.Context, string) (container.Container, error) {
	return reached{at: p.at}, nil
}

// reached is a container whose ports all lead to one address.
type reached struct {
	container.Container

	at netip.AddrPort
}

func (r reached) Dial(ctx context.Context, _ uint16) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", r.at.String())
}
