package host

import (
	"encoding/csv"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ParseGPUs reads the grammar of docker run --gpus as far as it says which devices: "all", a count such as "2", or
// "device=0,1" with indexes or UUIDs. Further CSV fields (capabilities, driver, options) are left to the container
// engine. It returns a count (-1 is all) or the named devices.
func ParseGPUs(gpus string) (count int, devices []string, err error) {
	fields, err := csv.NewReader(strings.NewReader(gpus)).Read()
	if err != nil || gpus != strings.TrimSpace(gpus) {
		return 0, nil, fmt.Errorf("%q is none of all, a count, device=0,1 or device=UUID", gpus)
	}
	// Unquoted, device=0,1 is two CSV fields; Docker's own CLI wants quotes there. Both are understood here.
	for i, field := range fields {
		key, value, named := strings.Cut(field, "=")
		switch {
		case named && key == "device":
			devices = append(devices, strings.Split(value, ",")...)
		case named && key == "count":
			field = value
			fallthrough
		case i == 0 && !named:
			if field == "all" || field == "-1" {
				count = -1
			} else if count, err = strconv.Atoi(field); err != nil || count < 1 {
				return 0, nil, fmt.Errorf("%q is none of all, a count, device=0,1 or device=UUID", gpus)
			}
		case !named && len(devices) > 0:
			devices = append(devices, field)
		case named && (key == "capabilities" || key == "driver" || key == "options"):
		default:
			return 0, nil, fmt.Errorf("%q is none of all, a count, device=0,1 or device=UUID", gpus)
		}
	}
	if (count == 0) == (len(devices) == 0) || slices.Contains(devices, "") {
		return 0, nil, fmt.Errorf("%q is none of all, a count, device=0,1 or device=UUID", gpus)
	}
	return count, devices, nil
}

// Select returns the GPUs of a host that gpus names. Naming one that is not there is an error that lists those that are,
// and so is naming GPUs of different models: one engine serves all of them, and runs only on the model it was built on.
func (g GPUs) Select(gpus string) ([]GPU, error) {
	count, names, err := ParseGPUs(gpus)
	if err != nil {
		return nil, err
	}
	chosen := g.Devices
	switch {
	case count > len(g.Devices):
		return nil, fmt.Errorf("%d GPUs are asked for, there is %d: %s", count, len(g.Devices), g.list())
	case count > 0:
		chosen = g.Devices[:count]
	case len(names) > 0:
		chosen = nil
		for _, name := range names {
			i := slices.IndexFunc(g.Devices, func(d GPU) bool {
				return strconv.Itoa(d.Index) == name || len(name) >= len("GPU-")+4 && strings.HasPrefix(d.UUID, name)
			})
			if i < 0 && !strings.HasPrefix(name, "MIG-") {
				return nil, fmt.Errorf("there is no GPU %s: there is %s", name, g.list())
			}
			if i < 0 {
				i = 0 // nvidia-smi lists no MIG instances here; the container engine will say whether it is there
			}
			chosen = append(chosen, g.Devices[i])
		}
	}
	for _, d := range chosen[1:] {
		if d.Name != chosen[0].Name || d.Compute != chosen[0].Compute {
			return nil, fmt.Errorf("unlike GPUs cannot share an engine, which runs only on the model that it was built on: %s", g.list())
		}
	}
	return chosen, nil
}

func (g GPUs) list() string {
	parts := make([]string, len(g.Devices))
	for i, d := range g.Devices {
		parts[i] = fmt.Sprintf("%d %s (%s)", d.Index, d.Name, d.UUID)
	}
	return strings.Join(parts, ", ")
}
