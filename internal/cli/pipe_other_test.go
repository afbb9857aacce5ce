//go:build !unix

package cli

import "errors"

// makePipe makes a named pipe.
func makePipe(string) error { return errors.ErrUnsupported }
