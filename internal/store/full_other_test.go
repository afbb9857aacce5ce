//go:build !linux

package store_test

import "errors"

// fullDisk is of TestDiskFull, which is there on Linux alone: only there a test can have a small file system of its own.
func fullDisk(string) error { return errors.New("on Linux alone") }

// belowOnReadOnlyDisk is of TestBelowOnReadOnlyDisk, which is there on Linux alone for the same reason.
func belowOnReadOnlyDisk(_, _ string) error { return errors.New("on Linux alone") }
