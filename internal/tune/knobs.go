package tune

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/dalirun/dalirun/internal/target"
)

// Knobs returns what is turned of a target's server. cpus are those of the container engine's host, 0 if they are not
// known. Whatever else a server is given follows from these, or was asked for.
//
// On the gpu lane these are DALI's instances, their threads, the size of a batch and the JPEG engine's share, of which
// each was seen to count on an H100. On the cpu lane there is no such engine, and one instance uses all cores: fewer
// threads leave some of them to the classifier.
func Knobs(t target.Target, cpus int) []Knob {
	s := t.Serving
	batches := upTo(t.MaxBatch, 8, 16, 32, 64, 128, 256)
	if t.Lane == target.GPU {
		return []Knob{
			numbers("dali-instances", s.DALIInstances, 1, 2, 3, 4, 6, 8),
			numbers("dali-threads", s.DALIThreads, 1, 2, 3, 4, 6, 8),
			numbers("preferred-batch", s.PreferredBatch, batches...),
			shares("hw-decoder-load", s.HWDecoderLoad, 0.5, 0.65, 0.8, 0.9, 1),
		}
	}
	return []Knob{
		threads(s.DALIThreads, cpus),
		numbers("preferred-batch", s.PreferredBatch, upTo(t.MaxBatch, 2, 4, 8)...),
		numbers("dali-instances", s.DALIInstances, 1, 2),
		numbers("classifier-instances", s.ClassifierInstances, 1, 2),
	}
}

// threads are those of each DALI instance on the cpu lane, where one for each CPU is what comes of no value.
func threads(start, cpus int) Knob {
	values := upTo(cpus-1, 1, 2, 4, 8, 16, 32)
	if start > 0 {
		return numbers("dali-threads", start, append(values, max(cpus, 1))...)
	}
	k := numbers("dali-threads", 0, values...)
	k.Values = append(k.Values[1:], "") // which numbers put first
	k.Start = len(k.Values) - 1
	return k
}

func upTo(most int, values ...int) []int {
	return slices.DeleteFunc(values, func(v int) bool { return v > most })
}

// numbers is a knob with a whole number, the one of the start among its values; 0 is no value.
func numbers(key string, start int, values ...int) Knob {
	return knob(key, start, values, func(v int) string {
		if v == 0 {
			return ""
		}
		return strconv.Itoa(v)
	})
}

// shares is a knob with a part of a whole.
func shares(key string, start float64, values ...float64) Knob {
	return knob(key, start, values, func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) })
}

func knob[T cmp.Ordered](key string, start T, values []T, text func(T) string) Knob {
	all := slices.Compact(slices.Sorted(slices.Values(append([]T{start}, values...))))
	k := Knob{Key: key, Start: slices.Index(all, start)}
	for _, v := range all {
		k.Values = append(k.Values, text(v))
	}
	return k
}
