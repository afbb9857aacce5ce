//go:build !linux

package docker

import (
	"context"
	"errors"
)

// listener returns an error: only on Linux may this process be in a container.
func listener(context.Context, string) (pid int, err error) { return 0, errors.ErrUnsupported }
