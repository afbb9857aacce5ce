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
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/registry"
)

// Answers are what [Probes] said, by question, as plain data that serializes. The zero value is ready to use.
type Answers struct {
	mu      sync.Mutex
	said    map[string]answer
	missing []string
}

// Missing are the questions of a replay that were not asked when the answers were recorded.
func (a *Answers) Missing() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.missing)
}

// answer is one of them.
type answer struct {
	Value   json.RawMessage `json:"value,omitempty"`
	Failure *failure        `json:"failure,omitempty"`
}

// MarshalJSON writes the answers in the order of their questions.
func (a *Answers) MarshalJSON() ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return json.Marshal(a.said)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (a *Answers) UnmarshalJSON(text []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return json.Unmarshal(text, &a.said)
}

// Record returns probes that ask p and note each answer in a.
func Record(p Probes, a *Answers) Probes { return probesOf(&interview{asked: &p, answers: a}) }

// Replay returns probes that give recorded answers. Of a question that was not asked then they know nothing, and note it:
// see [Answers.Missing].
func Replay(a *Answers) Probes { return probesOf(&interview{answers: a}) }

func probesOf(i *interview) Probes {
	return Probes{
		Host: hostInterview{i}, Runtime: runtimeInterview{i}, Registry: registryInterview{i}, Cache: cacheInterview{i},
		Weights: weightsInterview{i},
		Clock: func() time.Time {
			now, _ := ask(i, "clock", func(p Probes) (time.Time, error) { return p.Clock(), nil })
			return now
		},
	}
}

// interview asks probes and notes what they say; without any it reads what was noted.
type interview struct {
	asked   *Probes
	answers *Answers
}

// ask gets the answer to a question.
func ask[T any](i *interview, question string, of func(Probes) (T, error)) (T, error) {
	if i.asked == nil {
		return recall[T](i.answers, question)
	}
	value, err := of(*i.asked)
	text, jsonErr := json.Marshal(value)
	if jsonErr != nil {
		return value, fmt.Errorf("note the answer to %q: %w", question, jsonErr)
	}
	i.answers.mu.Lock()
	defer i.answers.mu.Unlock()
	if i.answers.said == nil {
		i.answers.said = map[string]answer{}
	}
	i.answers.said[question] = answer{Value: text, Failure: failureOf(err)}
	return value, err
}

func recall[T any](a *Answers, question string) (value T, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	said, ok := a.said[question]
	if !ok {
		a.missing = append(a.missing, question)
		return value, fmt.Errorf("%q was not asked when the answers were recorded", question)
	}
	if err := json.Unmarshal(said.Value, &value); err != nil {
		return value, fmt.Errorf("the recorded answer to %q: %w", question, err)
	}
	if said.Failure == nil {
		return value, nil
	}
	return value, said.Failure
}

// failure is an error as plain data: its text, and what decisions rest on.
type failure struct {
	Text      string           `json:"text"`
	Sentinels []string         `json:"sentinels,omitempty"` // names of those that it is
	NoGPU     *host.NoGPUError `json:"no_gpu,omitempty"`    // without its cause
	Registry  *registry.Error  `json:"registry,omitempty"`  // without its cause
}

// sentinels are the errors that decisions tell apart, by name.
func sentinels() map[string]error {
	return map[string]error{
		"slow":        ErrSlow,
		"not exist":   fs.ErrNotExist,
		"permission":  fs.ErrPermission,
		"unreachable": container.ErrUnreachable,
		"settings":    container.ErrSettings,
		"denied user": container.ErrPermission,
		"not found":   container.ErrNotFound,
	}
}

func failureOf(err error) *failure {
	if err == nil {
		return nil
	}
	f := failure{Text: err.Error()}
	for name, sentinel := range sentinels() {
		if errors.Is(err, sentinel) {
			f.Sentinels = append(f.Sentinels, name)
		}
	}
	slices.Sort(f.Sentinels)
	f.NoGPU, _ = errors.AsType[*host.NoGPUError](err)
	f.Registry, _ = errors.AsType[*registry.Error](err)
	return &f
}

// Error returns the text of the error that it was.
func (f *failure) Error() string { return f.Text }

// Is says whether it was that sentinel.
func (f *failure) Is(target error) bool {
	for _, name := range f.Sentinels {
		if sentinels()[name] == target {
			return true
		}
	}
	return false
}

// Unwrap returns the errors with facts that it was.
func (f *failure) Unwrap() []error {
	var errs []error
	if f.NoGPU != nil {
		errs = append(errs, f.NoGPU)
	}
	if f.Registry != nil {
		errs = append(errs, f.Registry)
	}
	return errs
}

// Each of these asks about one thing.
type (
	hostInterview     struct{ *interview }
	runtimeInterview  struct{ *interview }
	registryInterview struct{ *interview }
	cacheInterview    struct{ *interview }
	weightsInterview  struct{ *interview }
)

// GPUs is of [HostProbe].
func (i hostInterview) GPUs(ctx context.Context) (host.GPUs, error) {
	return ask(i.interview, "host: gpus", func(p Probes) (host.GPUs, error) { return p.Host.GPUs(ctx) })
}

// Kernel is of [HostProbe].
func (i hostInterview) Kernel() string {
	return text(i.interview, "host: kernel", func(p Probes) string { return p.Host.Kernel() })
}

// ToolkitHook is of [HostProbe].
func (i hostInterview) ToolkitHook() string {
	return text(i.interview, "host: toolkit hook", func(p Probes) string { return p.Host.ToolkitHook() })
}

// CDISpec is of [HostProbe].
func (i hostInterview) CDISpec() string {
	return text(i.interview, "host: CDI specification", func(p Probes) string { return p.Host.CDISpec() })
}

// PortFree is of [HostProbe].
func (i hostInterview) PortFree(ctx context.Context, at netip.AddrPort) (bool, error) {
	return ask(i.interview, fmt.Sprintf("host: %s is free", at), func(p Probes) (bool, error) { return p.Host.PortFree(ctx, at) })
}

// PortUser is of [HostProbe].
func (i hostInterview) PortUser(port uint16) string {
	return text(i.interview, fmt.Sprintf("host: user of port %d", port), func(p Probes) string { return p.Host.PortUser(port) })
}

// DiskFree is of [HostProbe].
func (i hostInterview) DiskFree(ctx context.Context, folder string) (uint64, error) {
	return ask(i.interview, "host: bytes free in "+folder, func(p Probes) (uint64, error) {
		return p.Host.DiskFree(ctx, folder)
	})
}

// Remote is of [RuntimeProbe].
func (i runtimeInterview) Remote() bool {
	remote, _ := ask(i.interview, "runtime: is remote", func(p Probes) (bool, error) { return p.Runtime.Remote(), nil })
	return remote
}

// Info is of [RuntimeProbe].
func (i runtimeInterview) Info(ctx context.Context) (container.Info, error) {
	return ask(i.interview, "runtime: info", func(p Probes) (container.Info, error) { return p.Runtime.Info(ctx) })
}

// Resolve is of [RuntimeProbe].
func (i runtimeInterview) Resolve(ctx context.Context, ref string) (container.Image, error) {
	return ask(i.interview, "runtime: image "+ref, func(p Probes) (container.Image, error) { return p.Runtime.Resolve(ctx, ref) })
}

// List is of [RuntimeProbe].
func (i runtimeInterview) List(ctx context.Context, labels container.Labels) ([]container.Summary, error) {
	return ask(i.interview, fmt.Sprintf("runtime: containers with %v", labels), func(p Probes) ([]container.Summary, error) {
		return p.Runtime.List(ctx, labels)
	})
}

// Lookup is of [RegistryProbe].
func (i registryInterview) Lookup(ctx context.Context, ref, arch string) (registry.Image, error) {
	return ask(i.interview, "registry: image "+ref+" for "+arch, func(p Probes) (registry.Image, error) {
		return p.Registry.Lookup(ctx, ref, arch)
	})
}

// rememberedImage is the answer of [CacheProbe.RememberedImage].
type rememberedImage struct {
	ID  string            `json:"id,omitempty"`
	Env map[string]string `json:"env,omitempty"`
	OK  bool              `json:"ok"`
}

// RememberedImage is of [CacheProbe].
func (i cacheInterview) RememberedImage(ref string) (id string, env map[string]string, ok bool) {
	image, _ := ask(i.interview, "cache: image "+ref, func(p Probes) (rememberedImage, error) {
		id, env, ok := p.Cache.RememberedImage(ref)
		return rememberedImage{id, env, ok}, nil
	})
	return image.ID, image.Env, image.OK
}

// Unreached is of [CacheProbe].
func (i cacheInterview) Unreached() time.Time {
	at, _ := ask(i.interview, "cache: weights unreached", func(p Probes) (time.Time, error) { return p.Cache.Unreached(), nil })
	return at
}

// NoteUnreached is of [CacheProbe].
func (i cacheInterview) NoteUnreached(at time.Time) error {
	_, err := ask(i.interview, "cache: note weights unreached", func(p Probes) (struct{}, error) {
		return struct{}{}, p.Cache.NoteUnreached(at)
	})
	return err
}

// Stored is of [WeightsProbe].
func (i weightsInterview) Stored(ctx context.Context) bool {
	stored, _ := ask(i.interview, "weights: stored", func(p Probes) (bool, error) { return p.Weights.Stored(ctx), nil })
	return stored
}

// Reachable is of [WeightsProbe].
func (i weightsInterview) Reachable(ctx context.Context) error {
	_, err := ask(i.interview, "weights: reachable", func(p Probes) (struct{}, error) {
		return struct{}{}, p.Weights.Reachable(ctx)
	})
	return err
}

func text(i *interview, question string, of func(Probes) string) string {
	said, _ := ask(i, question, func(p Probes) (string, error) { return of(p), nil })
	return said
}
