package docker

import (
	"slices"

	dcontainer "github.com/docker/docker/api/types/container"

	"github.com/dalirun/dalirun/internal/cdi"
	"github.com/dalirun/dalirun/internal/container"
)

// deviceRequests returns the request for GPUs in the terms of the engine's API. [cdi.Request] decides which one it is.
// An engine older than 28.2 does not list its CDI devices, and gets the request of --gpus.
func deviceRequests(gpus container.GPUs, info container.Info) []dcontainer.DeviceRequest {
	if gpus.IsZero() {
		return nil
	}
	if devices, _ := cdi.Request(gpus, info); len(devices) > 0 {
		return []dcontainer.DeviceRequest{{Driver: "cdi", DeviceIDs: devices}}
	}
	options := gpus.Options
	if options == nil {
		options = map[string]string{} // Docker's own CLI sends an empty object too
	}
	return []dcontainer.DeviceRequest{{
		Driver: gpus.Driver, Count: gpus.Count, DeviceIDs: gpus.Devices,
		Capabilities: [][]string{append(slices.Clone(gpus.Capabilities), "gpu")}, Options: options,
	}}
}
