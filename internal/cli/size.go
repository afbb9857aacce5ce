package cli

import "github.com/docker/go-units"

// size writes bytes as nvidia-smi does, in binary units: "79.65 GiB".
func size[N int64 | uint64](bytes N) string {
	return units.CustomSize("%.4g %s", float64(bytes), 1<<10, []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"})
}
