// Package classify asks a server about pictures, and makes a record of each answer.
package classify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/dalirun/dalirun/internal/result"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/triton"
)

// Request is what is asked, and whom.
type Request struct {
	URL      string        // gRPC address of a server, host:port; empty for the workspace's
	Model    string        // that takes a picture and answers with classes
	Labels   string        // name of a file with one label a line; empty for the server's own
	Top      int           // how many classes are kept of an answer, at least 1
	Timeout  time.Duration // of one answer, above 0
	Jobs     int           // how many pictures may be at the server at a time, at least 1
	Ensemble string        // a model that does take pictures, for hints
	Settings target.Settings
}

// Finder finds servers. Nothing is asked of it before a picture may be sent.
type Finder interface {
	// Workspace is the folder whose server is asked.
	Workspace(ctx context.Context) (string, error)
	// Servers are those of the container engine.
	Servers(ctx context.Context) (serving.Servers, error)
}

// Asker asks one server about pictures. But for [Asker.Close] it is safe for concurrent use.
type Asker struct {
	// OnServer, which may be nil, is called once the server is known that is asked.
	OnServer func(Source)
	// OnDescription, which may be nil, is called after that with what the server says of itself and of the model, a
	// line each.
	OnDescription func(lines []string)

	request Request
	files   *userfile.Reader
	finder  Finder
	labels  []string      // of the user's file; nil without one
	checks  chan struct{} // holds one for each picture that is being checked
	sent    chan struct{} // holds one for each picture at the server

	connecting sync.Mutex     // guards the three below, which do not change once there is a client
	host       triton.Host    // the workspace's server; nil where the request names one
	client     *triton.Client // from the first picture on that may be sent
	source     Source
	model      string // that is asked, once the server is known

	judging sync.Mutex // guards the finder while the server's health is asked for: one answer at a time is enough

	stopping sync.Mutex
	stop     error // why no picture is sent any more
}

// New returns an Asker, which reads pictures and labels from files. Its [Asker.Err] is what is wrong with the request,
// as far as that needs no picture.
func New(ctx context.Context, request Request, files *userfile.Reader, finder Finder) *Asker {
	a := &Asker{
		request: request, files: files, finder: finder,
		// To check a picture is to decode it: more at a time than there are CPUs take memory and no less time.
		checks: make(chan struct{}, runtime.GOMAXPROCS(0)),
		sent:   make(chan struct{}, max(request.Jobs, 1)),
	}
	switch {
	case request.Timeout <= 0:
		a.stop = pipeline.Usagef("name a duration above 0, as in 30s", "%s is out of range",
			request.Settings.Written("timeout", request.Timeout.String()))
	case request.Labels != "":
		a.labels, a.stop = readLabels(ctx, files, request)
	}
	return a
}

// Close ends the connection to the server.
func (a *Asker) Close() {
	if a.client != nil {
		_ = a.client.Close() // nothing is in flight
	}
}

// Err is why no picture is sent any more, and the error of each that is asked about from now on; nil while they are.
func (a *Asker) Err() error {
	a.stopping.Lock()
	defer a.stopping.Unlock()
	return a.stop
}

// halt makes err the reason why no picture is sent any more, unless there is one already, and returns the reason.
func (a *Asker) halt(err error) error {
	a.stopping.Lock()
	defer a.stopping.Unlock()
	if a.stop == nil {
		a.stop = err
	}
	return a.stop
}

// Ask returns the record of the picture in a file; after an error it has no classes. The picture is read now: all of
// them at a time might not fit into memory.
func (a *Asker) Ask(ctx context.Context, name string) (Record, error) {
	return a.ask(ctx, name, a.files.File(name))
}

// ask is Ask with the file of the name.
func (a *Asker) ask(ctx context.Context, name string, file userfile.File) (Record, error) {
	record := a.record(name)
	err := a.Err()
	if err == nil && ctx.Err() == nil {
		var data []byte
		if data, err = a.read(ctx, name, file); err == nil {
			err = a.send(ctx, name, data, &record)
		}
	}
	if ctx.Err() != nil && record.Classes == nil { // an answer that is there is one
		err = a.halt(context.Cause(ctx))
	}
	return record, err
}

// record is what is known of a picture before it is asked about.
func (a *Asker) record(name string) Record {
	return Record{Image: name, Model: cmp.Or(a.request.Model, a.request.Ensemble)}
}

// read returns a picture that may be sent.
func (a *Asker) read(ctx context.Context, name string, file userfile.File) ([]byte, error) {
	data, err := file.ReadPicture(ctx)
	if err != nil {
		return nil, err
	}
	if err := enter(ctx, a.checks); err != nil {
		return nil, err
	}
	defer func() { <-a.checks }()
	_, err = userfile.CheckPicture(ctx, name, data)
	return data, err
}

// enter waits until there is room for one more.
func enter(ctx context.Context, room chan<- struct{}) error {
	select {
	case room <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// send fills the record with the answer to a picture.
func (a *Asker) send(ctx context.Context, name string, data []byte, record *Record) error {
	if err := enter(ctx, a.sent); err != nil {
		return err
	}
	defer func() { <-a.sent }()
	if err := a.connect(ctx); err != nil {
		return err
	}
	record.Source, record.Model = a.source, a.model
	r := a.asked()
	slow := fmt.Errorf("%s did not answer within %s", a.model, r.Timeout)
	within, cancel := context.WithTimeoutCause(ctx, r.Timeout, slow)
	defer cancel()
	began := time.Now()
	all, err := a.client.Classify(within, a.model, data, triton.EveryClass)
	if err != nil {
		return a.refused(ctx, name, err)
	}
	record.Milliseconds = float64(time.Since(began).Microseconds()) / 1000
	if slices.ContainsFunc(all, func(class triton.Class) bool { return math.IsNaN(float64(class.Value)) }) {
		return pipeline.Faultf(pipeline.NotReady, "", "%s: %s answered with values that are no numbers (NaN)",
			userfile.Shown(name), r.Model)
	}
	if a.labels != nil {
		if err := r.label(all, a.labels); err != nil {
			return a.halt(err)
		}
	}
	record.Classes = result.Classes(triton.Score(all)[:min(r.Top, len(all))])
	return nil
}

// refused is the fault of a request that ended with err, with what is wrong with the server, if it is one of dalirun's.
// What holds for every picture stops the others, and names none.
func (a *Asker) refused(ctx context.Context, name string, err error) error {
	if errors.Is(err, triton.ErrNoClassifier) {
		return a.halt(&pipeline.Fault{Kind: kindOf(err), Err: err, Hint: a.hint(err)})
	}
	if errors.Is(err, triton.ErrUnavailable) { // it may be busy with others, or not be there
		if gone := a.reach(ctx); errors.Is(gone, triton.ErrUnavailable) {
			return a.halt(a.withHealth(ctx, &pipeline.Fault{Kind: pipeline.NotReady, Err: err, Hint: a.hint(err)}))
		}
	}
	named := fmt.Errorf("%s: %w", userfile.Shown(name), err)
	return a.withHealth(ctx, &pipeline.Fault{Kind: kindOf(err), Err: named, Hint: a.hint(err)})
}

// reach is why the server does not say what it is; nil if it does.
func (a *Asker) reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, a.request.Timeout)
	defer cancel()
	_, err := a.client.Metadata(ctx)
	return err
}

// withHealth adds to a fault of a server that is one of dalirun's what is wrong with it.
func (a *Asker) withHealth(ctx context.Context, failed *pipeline.Fault) error {
	_, local := serving.LocalPort(a.source.Server)
	if failed.Kind != pipeline.NotReady || a.host == nil && !local || ctx.Err() != nil {
		return failed
	}
	a.judging.Lock()
	defer a.judging.Unlock()
	if stop := a.Err(); stop != nil { // another picture met what this one did
		return stop
	}
	servers, err := a.finder.Servers(ctx)
	if err != nil {
		return failed // there is an error already
	}
	return servers.WithHealth(ctx, a.source.Server, failed)
}

// kindOf is whose turn it is: where the server is well, it refuses the picture, or the model takes none.
func kindOf(err error) pipeline.Kind {
	if errors.Is(err, triton.ErrInvalid) {
		return pipeline.Usage
	}
	return pipeline.NotReady
}

// hint is what to do about an answer of the server that is an error.
func (a *Asker) hint(err error) string {
	switch {
	case errors.Is(err, triton.ErrUnavailable):
		return "is a server at " + a.source.Server + "? `dalirun ps` lists those of dalirun"
	case errors.Is(err, triton.ErrNotFound):
		return "--model names a model that the server has loaded"
	case errors.Is(err, triton.ErrNoClassifier):
		return "name with --model a model that takes pictures and answers with classes, as " + a.request.Ensemble + " does"
	case errors.Is(err, triton.ErrInvalid): // the picture may be at fault, or the model
		return "save the picture again as another kind, such as PNG, or name with --model a model that takes pictures"
	case errors.Is(err, context.DeadlineExceeded):
		return "give it longer with --timeout"
	default:
		return ""
	}
}

// connect finds the server and says what it is, once. An error stops all pictures.
func (a *Asker) connect(ctx context.Context) error {
	a.connecting.Lock()
	defer a.connecting.Unlock()
	if err := a.Err(); err != nil || a.client != nil {
		return err
	}
	if err := a.findAndDial(ctx); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return a.halt(err)
	}
	return nil
}

func (a *Asker) findAndDial(ctx context.Context) error {
	a.source.Server = a.request.URL
	if a.request.URL == "" {
		if err := a.findServer(ctx); err != nil {
			return err
		}
	}
	var err error
	if a.client, err = a.dial(); err != nil {
		return err
	}
	a.model = cmp.Or(a.request.Model, a.model, a.request.Ensemble)
	if err := a.countLabels(ctx); err != nil {
		return err
	}
	if a.OnServer != nil {
		a.OnServer(a.source)
	}
	if a.OnDescription == nil {
		return nil
	}
	lines, err := a.describe(ctx)
	if err != nil {
		return &pipeline.Fault{Kind: pipeline.NotReady, Err: err, Hint: a.hint(err)}
	}
	a.OnDescription(lines)
	return nil
}

func (a *Asker) dial() (*triton.Client, error) {
	if a.host != nil {
		return triton.DialIn(a.host)
	}
	client, err := triton.Dial(a.request.URL)
	if err != nil {
		return nil, pipeline.Usagef("as in --url localhost:8001", "%s: %w", a.request.Settings.Origin("url"), err)
	}
	return client, nil
}

// findServer finds the workspace's server, and what is known of it.
func (a *Asker) findServer(ctx context.Context) error {
	workspace, err := a.finder.Workspace(ctx)
	if err != nil {
		return err
	}
	servers, err := a.finder.Servers(ctx)
	if err != nil {
		return err
	}
	server, err := servers.Running(ctx, workspace)
	if err != nil {
		return err
	}
	a.host, a.source, a.model = servers.Host(server), sourceOf(workspace, server.Run()), servers.ModelOf(server)
	a.source.Server = servers.Address(server)
	return nil
}

// asked is the request with the model that is asked.
func (a *Asker) asked() Request {
	r := a.request
	r.Model = a.model
	return r
}

// countLabels refuses the user's labels before a picture is sent, where the model says how many classes it has. What
// keeps it from saying that, a picture meets too, and is told of it.
func (a *Asker) countLabels(ctx context.Context) error {
	if a.labels == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.request.Timeout)
	defer cancel()
	model, err := a.client.ModelMetadata(ctx, a.model)
	if err != nil || len(model.Outputs) != 1 {
		return nil
	}
	shape := model.Outputs[0].Shape
	if len(shape) == 0 || shape[len(shape)-1] < 1 {
		return nil
	}
	return a.asked().countLabels(a.labels, shape[len(shape)-1])
}

// describe is what the server says of itself and of the model, a line each.
func (a *Asker) describe(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, a.request.Timeout)
	defer cancel()
	server, err := a.client.Metadata(ctx)
	if err != nil {
		return nil, err
	}
	model, err := a.client.ModelMetadata(ctx, a.model)
	if err != nil {
		return nil, err
	}
	lines := []string{fmt.Sprintf("%s: %s %s", a.source.Server, server.Name, server.Version)}
	for _, t := range model.Inputs {
		lines = append(lines, fmt.Sprintf("%s: input %s %s %v", a.model, t.Name, t.Datatype, t.Shape))
	}
	for _, t := range model.Outputs {
		lines = append(lines, fmt.Sprintf("%s: output %s %s %v", a.model, t.Name, t.Datatype, t.Shape))
	}
	return lines, nil
}
