package container_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/dalirun/dalirun/internal/container"
)

// advised is an error of an adapter.
type advised struct {
	advice string
	cause  error
}

func (advised) Error() string    { return "x" }
func (a advised) Advice() string { return a.advice }
func (a advised) Unwrap() error  { return a.cause }

// What an adapter advises is found among all that an error wraps; errors without advice hide none.
func TestAdvice(t *testing.T) {
	t.Parallel()
	start := advised{advice: "start it"}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"none":      {nil, ""},
		"another":   {errors.New("x"), ""},
		"wrapped":   {fmt.Errorf("list: %w", start), "start it"},
		"silent":    {advised{}, ""},
		"a cause":   {advised{cause: start}, "start it"},
		"joined":    {fmt.Errorf("run: %w", errors.Join(errors.New("x"), advised{}, start)), "start it"},
		"the first": {errors.Join(start, advised{advice: "stop it"}), "start it"},
	} {
		if got := container.Advice(c.err); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}
