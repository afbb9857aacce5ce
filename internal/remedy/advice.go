package remedy

// Advice is what to do about a symptom that more than one place meets, in words that can follow "hint: " and be joined
// by "; or ". Whoever meets the symptom takes the words from here. What a single message of a single tool asks for is
// in its [Remedy], and what needs a path, a flag or a name of the run is with whoever knows those.
const (
	// The container engine.

	// EngineDied is for one that answered, and does not any more.
	EngineDied = "start the container engine and run again"
	// EngineHangs is for one that answers and does nothing.
	EngineHangs = "the container engine or a hook of it hangs: look at its log (`journalctl -u docker`), " +
		"restart it and run again"
	// FreeEngineDisk is for a full disk of images and containers.
	FreeEngineDisk = "free space where the container engine stores its images and containers " +
		"(" + WhatCouldGo + "), then run again"
	// WhatCouldGo is for a disk on which images may have no room.
	WhatCouldGo = "`docker system df` and `dalirun gc --dry-run` say what could go"
	// InstallInit is for one that has no docker-init.
	InstallInit = "install tini where the container engine runs: it is what Docker calls docker-init"
	// LogIn is for a registry that wants to know who asks.
	LogIn = "log in to the registry with `docker login`"
	// OtherHost is for an address that the host where containers run does not have.
	OtherHost = "name an address of the host where containers run with --host, or 0.0.0.0 for all that it has"
	// FreePort is for a port that another program has.
	FreePort = "stop what uses it, name another, or name none and a free one is taken"

	// GPUs and what gives them to containers.

	// UseCPU is for whoever can do without one.
	UseCPU = "use --accel cpu"
	// InstallToolkit is for a container engine that has no way to give GPUs to containers.
	InstallToolkit = "install the NVIDIA Container Toolkit: `sudo apt-get install -y nvidia-container-toolkit && " +
		"sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker` " +
		"(https://docs.nvidia.com/datacenter/cloud-native/container-toolkit says where the package comes from)"
	// RenewCDI is for CDI devices that are not there, or others than the host has.
	RenewCDI = "make its CDI devices anew: `sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`, " +
		"then restart the container engine"
	// PodmanCDI is for Podman, which reads the files of CDI itself.
	PodmanCDI = "make its CDI devices: `sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`"
	// ListGPUs is for a GPU that was named and is not there.
	ListGPUs = "name one that `nvidia-smi -L` lists with --gpus device=…"
	// FreeGPUMemory is for a GPU whose memory others use, or which is too small.
	FreeGPUMemory = "stop what else uses the GPU (`nvidia-smi`), choose another one with --gpus device=…, " +
		"or lower --max-batch and --opt-batch"

	// NVIDIA's driver.

	// InstallDriver is for a host without one.
	InstallDriver = "install NVIDIA's driver, on Ubuntu `sudo ubuntu-drivers install --gpgpu`, restart, " +
		"and look with `nvidia-smi`"
	// LoadDriver is for one whose kernel module is not loaded.
	LoadDriver = "`sudo modprobe nvidia`; if there is no such module for this kernel, `sudo dkms autoinstall` makes it"
	// ReloadDriver is for one that was updated while its old kernel module was loaded.
	ReloadDriver = "restart the machine, or " +
		"`sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia && sudo modprobe nvidia`"
	// DriverHangs is for one that does not answer, or with a fault of the GPU.
	DriverHangs = "`sudo dmesg | grep -E 'NVRM|Xid'` says what the driver met; restart the machine"
	// UpdateDriver is for one that is older than an image needs.
	UpdateDriver = "update the driver, or take a release that it can run: `dalirun doctor` says which (--release YY.MM)"

	// What the run makes.

	// SilentDisk is for a disk of this host that does not answer.
	SilentDisk = "a disk of the network hangs while its server does: see whether that answers (`findmnt` names it)"
	// FreeCacheDisk is for a full disk of this host, where it is known by what was written alone.
	FreeCacheDisk = "free space on the disk of the cache, or name another with --cache-dir, then run again"
	// OneRelease is for images that do not fit each other.
	OneRelease = "take one --release YY.MM for both images, and NVIDIA's plain -py3 ones"
)
