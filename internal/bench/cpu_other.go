//go:build !unix

package bench

import (
	"errors"
	"time"
)

// ProcessCPU is an error on systems that do not count as Unix does.
func ProcessCPU() (time.Duration, error) { return 0, errors.ErrUnsupported }
