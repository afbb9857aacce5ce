// Package cdi knows what NVIDIA's GPUs are called as devices of the Container Device Interface: nvidia.com/gpu=0,
// nvidia.com/gpu=0:1 for an instance of MIG, nvidia.com/gpu=GPU-…, nvidia.com/gpu=all. Source:
// https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/cdi-support.html. It decides whether a
// container engine is asked for them as such.
package cdi

import (
	"slices"
	"strconv"

	"tags.cncf.io/container-device-interface/pkg/parser"

	"github.com/dalirun/dalirun/internal/container"
)

const (
	vendor = "nvidia.com"
	class  = "gpu"

	// Kind is what all these devices are, before the "=" of their names.
	Kind = vendor + "/" + class

	all = "all" // the device that is all of them
)

// Name returns what a device of [Kind] is called within it, such as 0 or GPU-…; ok is false for any other device.
func Name(device string) (name string, ok bool) {
	deviceVendor, deviceClass, name := parser.ParseDevice(device)
	return name, deviceVendor == vendor && deviceClass == class
}

// ByDevice reports whether a container engine is asked for gpus by the names of CDI devices. Podman, which does not
// list its devices and knows no other driver, ignores every other kind of request without an error. Another engine that
// lists NVIDIA's devices and has no nvidia runtime supports --gpus only if a hook was on its PATH when it started: that
// is taken only where gpus name another driver.
func ByDevice(gpus container.GPUs, info container.Info) bool {
	if info.Podman() {
		return true
	}
	ours := gpus.Driver == "" || gpus.Driver == "cdi"
	return ours && len(info.CDIDevices) > 0 && !slices.Contains(info.Runtimes, container.NVIDIARuntime)
}

// Request decides how a container engine is asked for gpus: by the devices that it returns, or as docker run --gpus
// does where it returns none. The devices are all of them, the first of a count by index, or those that are named, with
// or without their kind.
//
// It returns none where the engine is not asked by devices, see [ByDevice], and if the engine lists devices without one
// of gpus: missing is the first such.
func Request(gpus container.GPUs, info container.Info) (devices []string, missing string) {
	if !ByDevice(gpus, info) {
		return nil, ""
	}
	names := slices.Clone(gpus.Devices)
	if gpus.Count == container.AllGPUs {
		names = append(names, all)
	}
	for index := range max(gpus.Count, 0) {
		names = append(names, strconv.Itoa(index))
	}
	for _, name := range names {
		device := name
		if deviceVendor, _, _ := parser.ParseDevice(name); deviceVendor == "" {
			device = parser.QualifiedName(vendor, class, name)
		}
		if len(info.CDIDevices) > 0 && !slices.Contains(info.CDIDevices, device) {
			return nil, device
		}
		devices = append(devices, device)
	}
	return devices, ""
}
