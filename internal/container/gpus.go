package container

import (
	"encoding/csv"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// AllGPUs is the Count for all GPUs of a host.
const AllGPUs = -1

// GPUs are the GPUs that a container gets, as docker run --gpus defines them: a count, or devices by name, with
// options. The zero value is no GPU.
type GPUs struct {
	Count   int      // any so many GPUs, or AllGPUs; 0 where Devices are named
	Devices []string // indexes (0), MIG instances (0:1), UUIDs or names of CDI devices

	// Requirements for the driver that provides the GPUs. Empty is the container engine's default.
	Driver       string
	Capabilities []string // such as utility; "gpu" is implied
	Options      map[string]string
}

// The keys of --gpus.
const (
	keyCount        = "count"
	keyDevice       = "device"
	keyDriver       = "driver"
	keyCapabilities = "capabilities"
	keyOptions      = "options"
)

// ParseGPUs reads a value of docker run --gpus: "all", a count such as "2", or "device=0,1" with indexes (0:1 is a MIG
// instance) or UUIDs, and further CSV fields (driver, capabilities, options). Unlike Docker's own CLI it requires a
// count or devices, and also takes device=0,1 without quotes, which is two CSV fields. Source:
// https://github.com/docker/cli/blob/v28.5.2/opts/gpus.go.
func ParseGPUs(text string) (GPUs, error) {
	refused := fmt.Errorf("%q is none of all, a count, device=0,1 or device=UUID", text)
	fields, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil || strings.ContainsFunc(text, unicode.IsSpace) {
		return GPUs{}, refused
	}
	var gpus GPUs
	seen := map[string]bool{}
	current := keyCount // the key of a field that has none
	for _, field := range fields {
		key, value, named := strings.Cut(field, "=")
		if !named {
			key, value = current, field
		}
		further := !named && key == keyDevice
		if seen[key] && !further || !gpus.set(key, value) {
			return GPUs{}, refused
		}
		seen[key], current = true, key
	}
	if seen[keyCount] == seen[keyDevice] {
		return GPUs{}, refused
	}
	return gpus, nil
}

// set sets one field. It returns false if the field is not valid.
func (g *GPUs) set(key, value string) bool {
	switch key {
	case keyCount:
		if value == "all" {
			value = strconv.Itoa(AllGPUs)
		}
		count, err := strconv.Atoi(value)
		g.Count = count
		return err == nil && count >= AllGPUs && count != 0
	case keyDevice:
		g.Devices = append(g.Devices, strings.Split(value, ",")...)
		return !slices.Contains(g.Devices, "")
	case keyDriver:
		g.Driver = value
		return value != ""
	case keyCapabilities:
		g.Capabilities = strings.Split(value, ",")
		return !slices.Contains(g.Capabilities, "")
	case keyOptions:
		settings, err := csv.NewReader(strings.NewReader(value)).Read()
		g.Options = map[string]string{}
		for _, setting := range settings {
			name, to, _ := strings.Cut(setting, "=")
			g.Options[name] = to
		}
		return err == nil
	default:
		return false
	}
}

// IsZero reports whether g is no GPU.
func (g GPUs) IsZero() bool { return g.Count == 0 && len(g.Devices) == 0 }

// String returns g in the form of [ParseGPUs] that people write: without quotes if there are devices alone. It is empty
// for no GPU.
func (g GPUs) String() string {
	line, bare := g.CSV(), g.devices()
	if line == `"`+bare+`"` && strings.Count(bare, "=") == 1 {
		return bare
	}
	return line
}

// CSV returns g in the form that Docker's own CLI reads too, which needs quotes for device=0,1. It is empty for no GPU.
func (g GPUs) CSV() string {
	if g.IsZero() {
		return ""
	}
	var fields []string
	switch {
	case len(g.Devices) > 0:
		fields = append(fields, g.devices())
	case g.Count == AllGPUs:
		fields = append(fields, "all")
	default:
		fields = append(fields, strconv.Itoa(g.Count))
	}
	if g.Driver != "" {
		fields = append(fields, keyDriver+"="+g.Driver)
	}
	if len(g.Capabilities) > 0 {
		fields = append(fields, keyCapabilities+"="+strings.Join(g.Capabilities, ","))
	}
	if len(g.Options) > 0 {
		var settings []string
		for _, name := range slices.Sorted(maps.Keys(g.Options)) {
			settings = append(settings, name+"="+g.Options[name])
		}
		fields = append(fields, keyOptions+"="+csvLine(settings))
	}
	return csvLine(fields)
}

func (g GPUs) devices() string { return keyDevice + "=" + strings.Join(g.Devices, ",") }

func csvLine(fields []string) string {
	var line strings.Builder
	w := csv.NewWriter(&line)
	_ = w.Write(fields) // a builder takes everything
	w.Flush()
	return strings.TrimSuffix(line.String(), "\n")
}

// MarshalText returns [GPUs.String].
func (g GPUs) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// UnmarshalText reads by [ParseGPUs]; an empty text is no GPU.
func (g *GPUs) UnmarshalText(text []byte) (err error) {
	*g = GPUs{}
	if len(text) > 0 {
		*g, err = ParseGPUs(string(text))
	}
	return err
}
