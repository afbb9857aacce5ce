package host

import (
	"slices"
	"strings"
)

// DataCenter says whether NVIDIA lists the GPU among its data center products, whose older driver branches run newer
// CUDA by its compatibility package. By name, since nvidia-smi's brand is "NVIDIA" for an H100 and a GeForce alike; the
// names are those of the supported products in the release notes of the data center drivers R470 to R580. False for
// what is not known.
func (g GPU) DataCenter() bool {
	name := strings.TrimPrefix(g.Name, "NVIDIA ")
	if strings.HasPrefix(name, "Tesla ") {
		return true
	}
	model, _, _ := strings.Cut(strings.ReplaceAll(name, "-", " "), " ")
	return slices.Contains([]string{
		"A2", "A10", "A10G", "A10M", "A16", "A30", "A30X", "A40", "A100", "A100X", "A800", // Ampere
		"L2", "L4", "L20", "L40", "L40G", "L40S", // Ada
		"H20", "H100", "H200", "H800", "GH200", // Hopper
		"B200", "B300", "GB200", "GB300", // Blackwell; the GB10 is no such product
	}, model)
}
