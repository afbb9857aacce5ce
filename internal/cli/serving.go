package cli

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dalirun/dalirun/internal/config"
	"github.com/dalirun/dalirun/internal/spelling"
	"github.com/dalirun/dalirun/internal/target"
)

// leastPool is tritonserver's own CUDA pool.
const leastPool = 64 * units.MiB

// servingFlags are the keys of --serving with their ranges, as flags that no command has.
func servingFlags(s *target.Serving) *pflag.FlagSet {
	f := pflag.NewFlagSet(config.Section, pflag.ContinueOnError)
	f.SortFlags = false
	numberVar(f, &s.DALIInstances, "dali-instances", 1, 64, "")
	numberVar(f, &s.ClassifierInstances, "classifier-instances", 1, 64, "")
	numberVar(f, &s.DALIThreads, "dali-threads", 1, 256, "")
	numberVar(f, &s.PreferredBatch, "preferred-batch", 1, 256, "")
	f.Var(delay{&s.QueueDelay}, "queue-delay", "")
	numberVar(f, &s.QueueLimit, "queue-limit", 1, 100_000, "")
	numberVar(f, &s.InflightLimit, "inflight-limit", 1, 100_000, "")
	f.Var(share{&s.HWDecoderLoad}, "hw-decoder-load", "")
	f.Var(pictureSize{&s.Picture}, "picture-size", "")
	f.Var(memorySize{&s.CUDAPool, leastPool, mostMemory}, "cuda-pool", "")
	f.Var(memorySize{&s.PinnedPool, leastPool, mostMemory}, "pinned-pool", "")
	return f
}

// servingKeys are the keys of --serving.
func servingKeys() []string {
	var keys []string
	servingFlags(&target.Serving{}).VisitAll(func(f *pflag.Flag) { keys = append(keys, f.Name) })
	return keys
}

// servingValue is a flag with KEY=VALUE for each key of --serving that is not to be the usual.
type servingValue struct{ value *target.Serving }

// String returns the keys that are set, with their values.
func (v servingValue) String() string {
	if v.value == nil { // pflag looks at the zero value
		return ""
	}
	usual, asked := servingFlags(&target.Serving{}), servingFlags(v.value)
	var set []string
	asked.VisitAll(func(f *pflag.Flag) {
		if value := f.Value.String(); value != usual.Lookup(f.Name).Value.String() {
			set = append(set, f.Name+"="+value)
		}
	})
	return strings.Join(set, ",")
}

// Type names the form in the help.
func (v servingValue) Type() string { return "KEY=VALUE,..." }

// Set takes the values of some keys, and leaves the others as they are.
func (v servingValue) Set(s string) error {
	flags := servingFlags(v.value)
	for entry := range strings.SplitSeq(s, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(entry), "=")
		f := flags.Lookup(key)
		switch {
		case !ok:
			return fmt.Errorf("%q is not of the form KEY=VALUE, as in dali-threads=2", entry)
		case f == nil:
			keys := servingKeys()
			return fmt.Errorf("there is no key %q; %s", key,
				cmp.Or(spelling.Nearest(key, keys), "the keys are "+strings.Join(keys, ", ")))
		}
		if err := f.Value.Set(value); err != nil {
			return errors.New(key + ": " + err.Error()) // pflag's own wrapping is taken off, this must stay
		}
	}
	return nil
}

// setServing sets the flag from the map that the configuration may have of it. An error names the line of its key.
func setServing(cmd *cobra.Command, f *pflag.Flag, values map[string]config.Value) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if key, ok := strings.CutPrefix(name, config.Section+"."); ok {
			errs = append(errs, set(cmd, f, key+"="+values[name].Text, values[name].From))
		}
	}
	return errors.Join(errs...)
}
