// Package bytesize writes numbers of bytes the same way everywhere.
package bytesize

import (
	"errors"
	"fmt"
	"strings"

	"github.com/docker/go-units"
)

// ErrNoSize is the cause of a text that is no size.
var ErrNoSize = errors.New("is no size with a unit, as in 20GiB")

// Parse reads a size as a user writes it, as in 20GiB or 512m. Of numbers without a unit only 0 is one: by 80 nobody
// means bytes.
func Parse(text string) (int64, error) {
	n, err := units.RAMInBytes(text)
	if err != nil || n < 0 || n > 0 && !strings.ContainsAny(text, "bBkKmMgGtTpP") {
		return 0, fmt.Errorf("%q %w", text, ErrNoSize)
	}
	return n, nil
}

// Format writes a number of bytes with four digits at most and a binary unit, as nvidia-smi has it: "79.65 GiB",
// "512 B".
func Format[N int | int64 | uint64](bytes N) string {
	return units.CustomSize("%.4g %s", float64(bytes), 1<<10, []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"})
}

// About writes a number of bytes with two digits, as far as a size holds that was seen once.
func About(bytes int64) string {
	digit := int64(10 * units.MiB)
	if bytes >= units.GiB {
		digit = units.GiB / 10
	}
	return Format((bytes + digit/2) / digit * digit)
}
