package host

import "strings"

// WSL says whether a kernel is that of Windows' subsystem for Linux, by the text of /proc/version: "… 5.15.90.1-microsoft-standard-WSL2 …".
// There, NVML is partly missing and DALI needs DALI_DISABLE_NVML=1.
func WSL(procVersion string) bool {
	return strings.Contains(strings.ToLower(procVersion), "microsoft")
}
