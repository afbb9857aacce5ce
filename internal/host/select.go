package host

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dalirun/dalirun/internal/container"
)

// Select returns the GPUs, or the MIG instances, that gpus names: an index (0), an instance of one (0:1), a UUID or its
// first letters. A GPU that is split stands for its instances, since that is what containers get. Naming one that is
// not there is an error that lists those that are, and so is naming GPUs of different models or profiles: one engine
// serves all of them, and runs only on the model it was built on. Where a program sees one MIG instance alone, all of
// them are the first, and naming several is an error.
func (g GPUs) Select(gpus container.GPUs) ([]GPU, error) {
	var chosen []GPU
	var err error
	switch {
	case gpus.IsZero():
		return nil, errors.New("no GPU is asked for")
	case gpus.Count > len(g.Devices):
		return nil, fmt.Errorf("%s asked for: %s", are(gpus.Count, "GPU"), g.list())
	case len(gpus.Devices) > 0:
		chosen, err = g.named(gpus.Devices)
	default:
		devices := g.Devices
		if gpus.Count != container.AllGPUs {
			devices = devices[:gpus.Count]
		}
		for _, d := range devices {
			parts, noParts := d.parts()
			chosen, err = append(chosen, parts...), errors.Join(err, noParts)
		}
		if len(chosen) > 0 {
			err = nil // one without instances adds nothing to those that can be used
		}
	}
	if err != nil {
		return nil, err
	}
	for _, d := range chosen[1:] {
		if d.Name != chosen[0].Name || d.Compute != chosen[0].Compute {
			return nil, fmt.Errorf("%w: %s", errUnlike, g.list())
		}
	}
	err = g.visible(chosen)
	switch {
	case err == nil:
		return chosen, nil
	case gpus.Count == container.AllGPUs: // nobody named them: what a program sees of all of them is the first
		return chosen[:1], nil
	default:
		return nil, err
	}
}

// visible refuses what a program in the container would not see: CUDA shows it one MIG instance and nothing else with
// drivers before R570, and one compute instance (1c.3g.40gb) of each GPU instance with later ones. Source: NVIDIA's MIG
// User Guide, device enumeration. A driver that is not known counts as an old one: nor is it known then whether the
// instances are alike.
func (g GPUs) visible(chosen []GPU) error {
	part := slices.IndexFunc(chosen, func(d GPU) bool { return d.Part != "" })
	if part < 0 || len(chosen) == 1 {
		return nil
	}
	const sentence = "%d GPUs are asked for, and %s: name one, as in --gpus device=%s; %s"
	branch, _, _ := strings.Cut(g.Driver, ".")
	if number, err := strconv.Atoi(branch); err != nil || number < 570 {
		return fmt.Errorf(sentence, len(chosen),
			"with drivers before R570 a program that gets a MIG instance sees nothing else",
			chosen[part].Address(), g.list())
	}
	if _, profile, _ := strings.Cut(chosen[part].Name, " MIG "); strings.Contains(profile, "c.") {
		return fmt.Errorf(sentence, len(chosen), "a program sees one compute instance of a GPU instance",
			chosen[part].Address(), g.list())
	}
	return nil
}

var errUnlike = errors.New("unlike GPUs cannot share an engine, which runs only on the model that it was built on")

func (g GPUs) named(names []string) ([]GPU, error) {
	var chosen []GPU
	for _, name := range names {
		found, err := g.find(name)
		if err != nil {
			return nil, err
		}
		for _, d := range found {
			if slices.ContainsFunc(chosen, func(c GPU) bool { return c.Address() == d.Address() }) {
				return nil, fmt.Errorf("GPU %s is named twice", name)
			}
			chosen = append(chosen, d)
		}
	}
	return chosen, nil
}

func (g GPUs) find(name string) ([]GPU, error) {
	for _, d := range g.Devices {
		if strconv.Itoa(d.Index) == name || begins(d.UUID, name) {
			return d.parts()
		}
		for _, i := range d.Instances {
			if fmt.Sprintf("%d:%d", d.Index, i.Index) == name || begins(i.UUID, name) {
				return []GPU{i.gpu(d)}, nil
			}
		}
	}
	for _, d := range g.Also {
		if begins(d.UUID, name) {
			return []GPU{d}, nil
		}
	}
	return nil, fmt.Errorf("there is no GPU %s: %s", name, g.list())
}

// begins says whether name is a UUID or its first letters, so many that it is no chance.
func begins(uuid, name string) bool {
	return len(name) >= len("GPU-1234") &&
		(strings.HasPrefix(name, "GPU-") || strings.HasPrefix(name, "MIG-")) &&
		strings.HasPrefix(uuid, name)
}

// parts are what containers get of a GPU: itself, or its instances.
func (g GPU) parts() ([]GPU, error) {
	if !g.MIG {
		return []GPU{g}, nil
	}
	if len(g.Instances) == 0 {
		return nil, fmt.Errorf("GPU %d is split by MIG and has no instance: "+
			"make one (`sudo nvidia-smi mig -i %d -cgi PROFILE -C`), "+
			"or switch MIG off (`sudo nvidia-smi -i %d -mig 0`)",
			g.Index, g.Index, g.Index)
	}
	parts := make([]GPU, len(g.Instances))
	for i, in := range g.Instances {
		parts[i] = in.gpu(g)
	}
	return parts, nil
}

// list says which GPUs and instances there are, each by what names it after --gpus device=: "there are GPU 0 (H100,
// GPU-…) and GPU 1 (…)".
func (g GPUs) list() string {
	var parts []string
	for _, d := range g.Devices {
		parts = append(parts, describe("GPU "+strconv.Itoa(d.Index), d.Name, d.UUID))
		for _, i := range d.Instances {
			parts = append(parts, describe(fmt.Sprintf("instance %d:%d", d.Index, i.Index), "MIG "+i.Profile, i.UUID))
		}
	}
	var also string // which of them these name is not known
	if len(g.Also) > 0 {
		uuids := make([]string, len(g.Also))
		for i, d := range g.Also {
			uuids[i] = d.UUID
		}
		also = ", by UUID " + strings.Join(uuids, ", ")
	}
	switch len(parts) {
	case 0:
		return "there is none"
	case 1:
		return "there is only " + parts[0] + also
	default:
		return "there are " + strings.Join(parts[:len(parts)-1], ", ") + " and " + parts[len(parts)-1] + also
	}
}

// describe leaves out what is not known, as of GPUs of another host.
func describe(what, name, uuid string) string {
	var known []string
	if name = strings.TrimSpace(name); name != "" && name != "MIG" {
		known = append(known, name)
	}
	if uuid != "" {
		known = append(known, uuid)
	}
	if len(known) == 0 {
		return what
	}
	return what + " (" + strings.Join(known, ", ") + ")"
}

// are is "1 GPU is" or "3 GPUs are".
func are(count int, what string) string {
	if count == 1 {
		return "1 " + what + " is"
	}
	return fmt.Sprintf("%d %ss are", count, what)
}
