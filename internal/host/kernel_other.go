//go:build !linux

package host

import "errors"

// readDevice is of Linux alone.
func readDevice(string) (string, error) { return "", errors.ErrUnsupported }
