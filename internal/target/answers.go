package target

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/lock"
	"github.com/dalirun/dalirun/internal/recipe"
	"github.com/dalirun/dalirun/internal/registry"
	"github.com/dalirun/dalirun/pipeline"
)

// Answers are the answers of [Probes] by question, as plain data that serializes. The zero value is ready to use.
type Answers struct {
	mu         sync.Mutex
	byQuestion map[string]answer
	missing    []string
}

// Missing returns the questions of a replay that were not asked when the answers were recorded.
func (a *Answers) Missing() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.missing)
}

// answer is the answer to one question: a value or an error.
type answer struct {
	Value   json.RawMessage `json:"value,omitempty"`
	Failure *failure        `json:"failure,omitempty"`
}

// MarshalJSON writes the answers in the order of their questions.
func (a *Answers) MarshalJSON() ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return json.Marshal(a.byQuestion)
}

// UnmarshalJSON reads the answers that MarshalJSON wrote.
func (a *Answers) UnmarshalJSON(text []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return json.Unmarshal(text, &a.byQuestion)
}

// Record returns probes that ask p and note each answer in a.
func Record(p Probes, a *Answers) Probes { return probesOf(&interview{probes: &p, answers: a}) }

// Replay returns probes that give recorded answers. A question that was not recorded is an error, or a zero value where
// the probe returns no error, and is among [Answers.Missing].
func Replay(a *Answers) Probes { return probesOf(&interview{answers: a}) }

func probesOf(i *interview) Probes {
	return Probes{
		Host: hostInterview{i}, Runtime: runtimeInterview{i}, Registry: registryInterview{i}, Cache: cacheInterview{i},
		Weights: weightsInterview{i}, Program: programInterview{i},
		Clock: func() time.Time {
			now, _ := answerTo(i, "clock", func(p Probes) (time.Time, error) { return p.Clock(), nil })
			return now
		},
	}
}

// interview asks probes and records their answers. In a replay probes is nil, and it gives the recorded answers.
type interview struct {
	probes  *Probes
	answers *Answers
}

// answerTo returns the answer to a question, which probe asks.
func answerTo[T any](i *interview, question string, probe func(Probes) (T, error)) (T, error) {
	if i.probes == nil {
		return recall[T](i.answers, question)
	}
	value, err := probe(*i.probes)
	text, jsonErr := json.Marshal(value)
	if jsonErr != nil {
		return value, fmt.Errorf("note the answer to %q: %w", question, jsonErr)
	}
	i.answers.mu.Lock()
	defer i.answers.mu.Unlock()
	if i.answers.byQuestion == nil {
		i.answers.byQuestion = map[string]answer{}
	}
	i.answers.byQuestion[question] = answer{Value: text, Failure: failureOf(err)}
	return value, err
}

func recall[T any](a *Answers, question string) (value T, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	recorded, ok := a.byQuestion[question]
	if !ok {
		a.missing = append(a.missing, question)
		return value, fmt.Errorf("%q was not asked when the answers were recorded", question)
	}
	if err := json.Unmarshal(recorded.Value, &value); err != nil {
		return value, fmt.Errorf("the recorded answer to %q: %w", question, err)
	}
	if recorded.Failure == nil {
		return value, nil
	}
	return value, recorded.Failure
}

// failure is an error as plain data: its text, and the sentinels and types by which Resolve decides.
type failure struct {
	Text      string           `json:"text"`
	Sentinels []string         `json:"sentinels,omitempty"` // names of the sentinels that the error is
	NoGPU     *host.NoGPUError `json:"no_gpu,omitempty"`    // without its cause
	Registry  *registry.Error  `json:"registry,omitempty"`  // without its cause
	Fault     *faultFields     `json:"fault,omitempty"`
	Advised   string           `json:"advice,omitempty"` // as [container.Advice] says
}

// faultFields is what a [pipeline.Fault] has beside its error.
type faultFields struct {
	Kind pipeline.Kind `json:"kind"`
	Hint string        `json:"hint,omitempty"`
}

// sentinels returns by name the errors by which Resolve decides.
func sentinels() map[string]error {
	return map[string]error{
		"slow":        ErrSlow,
		"not exist":   fs.ErrNotExist,
		"permission":  fs.ErrPermission,
		"unreachable": container.ErrUnreachable,
		"failing":     container.ErrFailing,
		"settings":    container.ErrSettings,
		"denied user": container.ErrPermission,
		"not found":   container.ErrNotFound,
		"no address":  syscall.EADDRNOTAVAIL,
	}
}

func failureOf(err error) *failure {
	if err == nil {
		return nil
	}
	f := failure{Text: err.Error(), Advised: container.Advice(err)}
	for name, sentinel := range sentinels() {
		if errors.Is(err, sentinel) {
			f.Sentinels = append(f.Sentinels, name)
		}
	}
	slices.Sort(f.Sentinels)
	f.NoGPU, _ = errors.AsType[*host.NoGPUError](err)
	f.Registry, _ = errors.AsType[*registry.Error](err)
	if fault, ok := errors.AsType[*pipeline.Fault](err); ok {
		f.Fault = &faultFields{fault.Kind, fault.Hint}
	}
	return &f
}

// Error returns the text of the recorded error.
func (f *failure) Error() string { return f.Text }

// Advice returns the recorded advice of a container engine.
func (f *failure) Advice() string { return f.Advised }

// Is reports whether the recorded error was the sentinel target.
func (f *failure) Is(target error) bool {
	for _, name := range f.Sentinels {
		if sentinels()[name] == target {
			return true
		}
	}
	return false
}

// Unwrap returns the typed errors that the recorded error was.
func (f *failure) Unwrap() []error {
	var errs []error
	if f.NoGPU != nil {
		errs = append(errs, f.NoGPU)
	}
	if f.Registry != nil {
		errs = append(errs, f.Registry)
	}
	if f.Fault != nil {
		errs = append(errs, &pipeline.Fault{Kind: f.Fault.Kind, Hint: f.Fault.Hint, Err: errors.New(f.Text)})
	}
	return errs
}

// These implement one probe each.
type (
	hostInterview     struct{ *interview }
	runtimeInterview  struct{ *interview }
	registryInterview struct{ *interview }
	cacheInterview    struct{ *interview }
	weightsInterview  struct{ *interview }
	programInterview  struct{ *interview }
)

// GPUs implements [HostProbe].
func (i hostInterview) GPUs(ctx context.Context) (host.GPUs, error) {
	return answerTo(i.interview, "host: gpus", func(p Probes) (host.GPUs, error) { return p.Host.GPUs(ctx) })
}

// Kernel implements [HostProbe].
func (i hostInterview) Kernel() string {
	return text(i.interview, "host: kernel", func(p Probes) string { return p.Host.Kernel() })
}

// ToolkitHook implements [HostProbe].
func (i hostInterview) ToolkitHook() string {
	return text(i.interview, "host: toolkit hook", func(p Probes) string { return p.Host.ToolkitHook() })
}

// CDISpec implements [HostProbe].
func (i hostInterview) CDISpec() string {
	return text(i.interview, "host: CDI specification", func(p Probes) string { return p.Host.CDISpec() })
}

// PortFree implements [HostProbe].
func (i hostInterview) PortFree(ctx context.Context, addr netip.AddrPort) (bool, error) {
	return answerTo(i.interview, fmt.Sprintf("host: %s is free", addr),
		func(p Probes) (bool, error) { return p.Host.PortFree(ctx, addr) })
}

// PortUser implements [HostProbe].
func (i hostInterview) PortUser(addr netip.AddrPort) string {
	return text(i.interview, fmt.Sprintf("host: user of %s", addr),
		func(p Probes) string { return p.Host.PortUser(addr) })
}

// DiskFree implements [HostProbe].
func (i hostInterview) DiskFree(ctx context.Context, folder string) (uint64, error) {
	return answerTo(i.interview, "host: bytes free in "+folder,
		func(p Probes) (uint64, error) { return p.Host.DiskFree(ctx, folder) })
}

// Remote implements [RuntimeProbe].
func (i runtimeInterview) Remote() bool {
	remote, _ := answerTo(i.interview, "runtime: is remote",
		func(p Probes) (bool, error) { return p.Runtime.Remote(), nil })
	return remote
}

// Info implements [RuntimeProbe].
func (i runtimeInterview) Info(ctx context.Context) (container.Info, error) {
	return answerTo(i.interview, "runtime: info", func(p Probes) (container.Info, error) { return p.Runtime.Info(ctx) })
}

// Resolve implements [RuntimeProbe].
func (i runtimeInterview) Resolve(ctx context.Context, ref string) (container.Image, error) {
	return answerTo(i.interview, "runtime: image "+ref,
		func(p Probes) (container.Image, error) { return p.Runtime.Resolve(ctx, ref) })
}

// List implements [RuntimeProbe].
func (i runtimeInterview) List(ctx context.Context, labels container.Labels) ([]container.Summary, error) {
	return answerTo(i.interview, fmt.Sprintf("runtime: containers with %v", labels),
		func(p Probes) ([]container.Summary, error) {
			return p.Runtime.List(ctx, labels)
		})
}

// Lookup implements [RegistryProbe].
func (i registryInterview) Lookup(ctx context.Context, ref, arch string) (registry.Image, error) {
	return answerTo(i.interview, "registry: image "+ref+" for "+arch, func(p Probes) (registry.Image, error) {
		return p.Registry.Lookup(ctx, ref, arch)
	})
}

// rememberedImage is the answer of [CacheProbe.RememberedImage].
type rememberedImage struct {
	ID  string            `json:"id,omitempty"`
	Env map[string]string `json:"env,omitempty"`
	OK  bool              `json:"ok"`
}

// RememberedImage implements [CacheProbe].
func (i cacheInterview) RememberedImage(ref string) (id string, env map[string]string, ok bool) {
	image, _ := answerTo(i.interview, "cache: image "+ref, func(p Probes) (rememberedImage, error) {
		id, env, ok := p.Cache.RememberedImage(ref)
		return rememberedImage{id, env, ok}, nil
	})
	return image.ID, image.Env, image.OK
}

// Unreached implements [CacheProbe].
func (i cacheInterview) Unreached() time.Time {
	since, _ := answerTo(i.interview, "cache: weights unreached",
		func(p Probes) (time.Time, error) { return p.Cache.Unreached(), nil })
	return since
}

// NoteUnreached implements [CacheProbe].
func (i cacheInterview) NoteUnreached(since time.Time) error {
	_, err := answerTo(i.interview, "cache: note weights unreached", func(p Probes) (struct{}, error) {
		return struct{}{}, p.Cache.NoteUnreached(since)
	})
	return err
}

// Stored implements [WeightsProbe].
func (i weightsInterview) Stored(ctx context.Context, of Remote) bool {
	stored, _ := answerTo(i.interview, "weights: stored",
		func(p Probes) (bool, error) { return p.Weights.Stored(ctx, of), nil })
	return stored
}

// Reachable implements [WeightsProbe].
func (i weightsInterview) Reachable(ctx context.Context, of Remote) error {
	_, err := answerTo(i.interview, "weights: reachable", func(p Probes) (struct{}, error) {
		return struct{}{}, p.Weights.Reachable(ctx, of)
	})
	return err
}

// FileSum implements [WeightsProbe].
func (i weightsInterview) FileSum(ctx context.Context, path string) (string, error) {
	return answerTo(i.interview, "weights: SHA-256 of "+path,
		func(p Probes) (string, error) { return p.Weights.FileSum(ctx, path) })
}

// Carried implements [ProgramProbe].
func (i programInterview) Carried(ctx context.Context, model recipe.Recipe, base, arch string) (lock.Lock, error) {
	return answerTo(i.interview, "program: carried, on "+base+" for "+arch,
		func(p Probes) (lock.Lock, error) { return p.Program.Carried(ctx, model, base, arch) })
}

func text(i *interview, question string, probe func(Probes) string) string {
	value, _ := answerTo(i, question, func(p Probes) (string, error) { return probe(p), nil })
	return value
}
