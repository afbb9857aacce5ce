package remedy

import "strings"

// NoGPU is what to do where nvidia-smi shows no GPU, by what it said: reason. notInstalled is that there is none, hangs
// that it gave no answer.
func NoGPU(reason string, notInstalled, hangs bool) string {
	says := func(words string) bool { return strings.Contains(reason, words) }
	switch {
	case notInstalled:
		return "install NVIDIA's driver, on Ubuntu `sudo ubuntu-drivers install --gpgpu`, restart, and look with `nvidia-smi`"
	case hangs:
		return "`sudo dmesg | grep -E 'NVRM|Xid'` says what the driver met; restart this machine"
	case says("Driver/library version mismatch"):
		return "the driver was updated while it was loaded: restart this machine, or " +
			"`sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia && sudo modprobe nvidia`"
	case says("couldn't communicate with the NVIDIA driver"):
		return "`sudo modprobe nvidia`; if there is no such module for this kernel, `sudo dkms autoinstall` makes it"
	case says("No devices"):
		return "`lspci -d 10de:` lists NVIDIA's hardware; `sudo dmesg | grep NVRM` says why the driver does not take it"
	case says("CDI"):
		return "on that host: " + RenewCDI
	default:
		return "look at `nvidia-smi`"
	}
}

// What makes a container engine able to give GPUs to containers.
const (
	// RenewCDI is for CDI devices that are not there, or not those that are listed.
	RenewCDI = "`sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`, then restart the container engine"
	// PodmanCDI is for Podman, which reads CDI's files itself.
	PodmanCDI = "`sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`, or --accel cpu"
	// InstallToolkit is for a container engine that has neither.
	InstallToolkit = "`sudo apt-get install -y nvidia-container-toolkit && sudo nvidia-ctk runtime configure --runtime=docker && " +
		"sudo systemctl restart docker` (https://docs.nvidia.com/datacenter/cloud-native/container-toolkit says where the package " +
		"comes from), or --accel cpu"
	// WhatCouldGo is for a disk that images fill.
	WhatCouldGo = "`docker system df` and `dalirun gc --dry-run` say what could go"
)
