package host

import (
	"io/fs"
	"strings"
)

// WSL says whether a kernel is that of Windows' subsystem for Linux, by the text of /proc/version:
// "… 5.15.90.1-microsoft-standard-WSL2 …". There, NVML is partly missing and DALI needs DALI_DISABLE_NVML=1.
func WSL(procVersion string) bool {
	return strings.Contains(strings.ToLower(procVersion), "microsoft")
}

// Kernel returns the text of proc's file version; empty where there is none.
func Kernel(proc fs.FS) string {
	version, err := fs.ReadFile(proc, "version")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(version))
}

// WSL1 says whether a kernel is that of the first WSL, which has no GPU and runs no containers: its name has no "WSL2"
// in it.
func WSL1(procVersion string) bool {
	return WSL(procVersion) && !strings.Contains(strings.ToUpper(procVersion), "WSL2")
}
