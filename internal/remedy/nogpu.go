package remedy

import "strings"

// NoGPU is what to do where nvidia-smi shows no GPU, by what it said: reason. notInstalled is that there is none, hangs
// that it gave no answer.
func NoGPU(reason string, notInstalled, hangs bool) string {
	says := func(words string) bool { return strings.Contains(reason, words) }
	switch {
	case notInstalled:
		return InstallDriver
	case hangs:
		return DriverHangs
	case says("Driver/library version mismatch"):
		return "the driver was updated while it was loaded: " + ReloadDriver
	case says("couldn't communicate with the NVIDIA driver"):
		return LoadDriver
	case says("No devices"):
		return "`lspci -d 10de:` lists NVIDIA's hardware; `sudo dmesg | grep NVRM` says why the driver does not take it"
	case says("CDI"):
		return "on that host: " + RenewCDI
	default:
		return "look at `nvidia-smi`"
	}
}
