package docker

import (
	"slices"

	dcontainer "github.com/docker/docker/api/types/container"

	"github.com/dalirun/dalirun/internal/cdi"
	"github.com/dalirun/dalirun/internal/container"
)

// deviceRequests asks the engine for GPUs, by the words of its API.
//
// CDI devices are asked for by name, see Info.ByCDI, unless one is not among those that the engine lists. An
// engine older than 28.2 does not list its CDI devices, and is asked as --gpus does.
func deviceRequests(gpus container.GPUs, info container.Info) []dcontainer.DeviceRequest {
	if gpus.IsZero() {
		return nil
	}
	if info.ByCDI() && (gpus.Driver == "" || gpus.Driver == "cdi" || info.Podman()) {
		if ids, missing := cdi.Request(gpus, info.CDIDevices); missing == "" || info.Podman() {
			return []dcontainer.DeviceRequest{{Driver: "cdi", DeviceIDs: ids}}
		}
	}
	options := gpus.Options
	if options == nil {
		options = map[string]string{} // as Docker's own CLI sends it
	}
	return []dcontainer.DeviceRequest{{
		Driver: gpus.Driver, Count: gpus.Count, DeviceIDs: gpus.Devices,
		Capabilities: [][]string{append(slices.Clone(gpus.Capabilities), "gpu")}, Options: options,
	}}
}
