package docker

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/cli/opts"
	dcontainer "github.com/docker/docker/api/types/container"

	"github.com/dalirun/dalirun/internal/container"
)

// gpus translates the grammar of docker run --gpus.
//
// Where the engine lists NVIDIA's CDI devices and has no nvidia runtime, it asks for those by name: such engines know
// --gpus only if a hook was on their PATH when they started (or not at all: Podman). An engine older than 28.2 does not
// list its CDI devices, and is asked as --gpus does.
func gpus(value string, f facts) ([]dcontainer.DeviceRequest, error) {
	if value == "" {
		return nil, nil
	}
	var parsed opts.GpuOpts
	if err := parsed.Set(quoteGPUs(value)); err != nil {
		return nil, fmt.Errorf("gpus %q: %w", value, err)
	}
	requests := parsed.Value()
	for i, request := range requests {
		if request.Count != 0 && len(request.DeviceIDs) > 0 {
			return nil, fmt.Errorf("gpus %q: either a count or devices, not both", value)
		}
		if ids, ok := cdiDevices(request, f); ok {
			requests[i] = dcontainer.DeviceRequest{Driver: "cdi", DeviceIDs: ids}
		}
	}
	return requests, nil
}

// quoteGPUs lets device=0,1 mean what it says. To Docker's CLI it is a list of two settings unless it is quoted.
func quoteGPUs(value string) string {
	if strings.HasPrefix(value, "device=") && strings.Count(value, "=") == 1 {
		return `"` + value + `"`
	}
	return value
}

// cdiDevices names the devices of a request, if that is the way to ask for them here.
func cdiDevices(request dcontainer.DeviceRequest, f facts) ([]string, bool) {
	switch {
	case f.podman: // ignores every other kind of request without a word
	case len(f.info.CDIDevices) == 0, slices.Contains(f.info.Runtimes, container.NVIDIARuntime), request.Driver != "" && request.Driver != "cdi":
		return nil, false
	}
	var ids []string
	switch {
	case request.Count < 0:
		ids = []string{container.CDIKind + "=all"}
	case request.Count > 0:
		for i := range request.Count {
			ids = append(ids, container.CDIKind+"="+strconv.Itoa(i))
		}
	default:
		for _, id := range request.DeviceIDs {
			ids = append(ids, container.CDIKind+"="+strings.TrimPrefix(id, container.CDIKind+"="))
		}
	}
	listed := func(id string) bool { return slices.Contains(f.info.CDIDevices, id) }
	return ids, f.podman || !slices.ContainsFunc(ids, func(id string) bool { return !listed(id) })
}
