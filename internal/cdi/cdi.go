// Package cdi knows what NVIDIA's GPUs are called as devices of the Container Device Interface: nvidia.com/gpu=0,
// nvidia.com/gpu=0:1 for an instance of MIG, nvidia.com/gpu=GPU-…, nvidia.com/gpu=all. Source:
// https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/cdi-support.html.
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

// Request returns the devices of gpus: all of them, the first of a count by index, or those that are named, with or
// without their kind. missing is the first that is not among those listed by a container engine; empty if it lists them
// all, or lists nothing.
func Request(gpus container.GPUs, listed []string) (devices []string, missing string) {
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
		devices = append(devices, device)
		if missing == "" && len(listed) > 0 && !slices.Contains(listed, device) {
			missing = device
		}
	}
	return devices, missing
}
