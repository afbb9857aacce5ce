//go:build !unix

package classify_test

import "errors"

// makePipe makes a named pipe.
func makePipe(string) error { return errors.ErrUnsupported }
