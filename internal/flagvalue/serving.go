package flagvalue

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/docker/go-units"

	"github.com/dalirun/dalirun/internal/spelling"
	"github.com/dalirun/dalirun/internal/target"
)

// MostMemory is the largest size of memory: more than the machines have that GPUs are in.
const MostMemory = 4 * units.TiB

// servingKey is a key of [Serving], with its own value.
type servingKey struct {
	name  string
	value Value
}

// servingKeysOf are the keys of a value with their ranges.
func servingKeysOf(s *target.Serving) []servingKey {
	return []servingKey{
		{"dali-instances", Int(&s.DALIInstances, 1, 64)},
		{"classifier-instances", Int(&s.ClassifierInstances, 1, 64)},
		{"dali-threads", Int(&s.DALIThreads, 1, 256)},
		{"preferred-batch", Int(&s.PreferredBatch, 1, 256)},
		{"queue-delay", Delay(&s.QueueDelay)},
		{"queue-limit", Int(&s.QueueLimit, 1, 100_000)},
		{"inflight-limit", Int(&s.InflightLimit, 1, 100_000)},
		{"hw-decoder-load", Share(&s.HWDecoderLoad)},
		{"picture-size", PictureSize(&s.Picture)},
		{"cuda-pool", Bytes(&s.CUDAPool, target.TritonCUDAPool, MostMemory)},
		{"pinned-pool", Bytes(&s.PinnedPool, target.TritonCUDAPool, MostMemory)},
	}
}

// ServingKeys returns the keys of [Serving].
func ServingKeys() []string {
	var names []string
	for _, k := range servingKeysOf(&target.Serving{}) {
		names = append(names, k.name)
	}
	return names
}

// ServingMap returns the keys of s that are not the usual ones, with their values as they are written.
func ServingMap(s target.Serving) map[string]string {
	set := map[string]string{}
	for entry := range strings.SplitSeq(Serving(&s).String(), ",") {
		if name, value, ok := strings.Cut(entry, "="); ok {
			set[name] = value
		}
	}
	return set
}

// Serving returns a value with KEY=VALUE for each key that is not to be the usual one. Setting it leaves the keys as
// they are that it does not name.
func Serving(value *target.Serving) Value { return serving{value} }

type serving struct{ value *target.Serving }

func (v serving) String() string {
	return text(v.value, func(s target.Serving) string {
		usual := servingKeysOf(&target.Serving{})
		var set []string
		for i, k := range servingKeysOf(&s) {
			if written := k.value.String(); written != usual[i].value.String() {
				set = append(set, k.name+"="+written)
			}
		}
		return strings.Join(set, ",")
	})
}

func (v serving) Type() string { return "KEY=VALUE,..." }

func (v serving) Set(s string) error {
	keys := servingKeysOf(v.value)
	for entry := range strings.SplitSeq(s, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(entry), "=")
		i := slices.IndexFunc(keys, func(k servingKey) bool { return k.name == name })
		switch {
		case !ok:
			return fmt.Errorf("%q is not of the form KEY=VALUE, as in dali-threads=2", entry)
		case i < 0:
			names := ServingKeys()
			return fmt.Errorf("there is no key %q; %s", name,
				cmp.Or(spelling.Nearest(name, names), "the keys are "+strings.Join(names, ", ")))
		}
		if err := keys[i].value.Set(value); err != nil {
			return errors.New(name + ": " + err.Error()) // a flag's error is its innermost one, and this has to stay
		}
	}
	return nil
}
