//go:build !linux

package store_test

import (
	"errors"
	"testing"
)

func TestDiskFull(t *testing.T) {
	t.Parallel()
	t.Skip("a small file system of the test's own can be had on Linux alone")
}

func fullDisk(string) error { return errors.New("on Linux alone") }
