//go:build !linux

package docker

import (
	"context"
	"errors"
)

// listener is not known: containers are Linux's.
func listener(context.Context, string) (pid int, err error) { return 0, errors.ErrUnsupported }
