package docker

import (
	"fmt"
	"strings"

	"github.com/docker/cli/opts"
	dcontainer "github.com/docker/docker/api/types/container"
)

// gpus translates the grammar of docker run --gpus.
//
// CDI devices are asked for by name, see Info.ByCDI, unless one is not among those that the engine lists. An
// engine older than 28.2 does not list its CDI devices, and is asked as --gpus does.
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
		if !f.info.ByCDI() || request.Driver != "" && request.Driver != "cdi" && !f.info.Podman() {
			continue
		}
		if ids, missing := f.info.CDIRequest(request.Count, request.DeviceIDs); missing == "" || f.info.Podman() {
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
