//go:build !linux && !darwin

package host

import (
	"errors"
	"fmt"
	"os"
)

// leaseFolder is an error: this system has no locks that the kernel drops when their process ends.
func leaseFolder(...string) (string, error) {
	return "", fmt.Errorf("leases of GPUs: %w", errors.ErrUnsupported)
}

func lockFile(string) (*os.File, Holder, error) { return nil, Holder{}, errors.ErrUnsupported }

func unlockFile(*os.File) {}
