// Package flagvalue has the values that flags of dalirun take: each reads what a user wrote, refuses what it cannot be
// with what it can, and writes it as a user would. A constructor takes the place of the value, which has the default.
package flagvalue

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/spelling"
)

// Value is the value of a flag, as package pflag takes it.
type Value interface {
	// String returns the value as it is written.
	String() string
	// Set takes what a user wrote. An error says what is allowed.
	Set(written string) error
	// Type names the allowed values, or their form, in the help.
	Type() string
}

// Choice returns a value that is one of a few words.
func Choice[T ~string](value *T, allowed ...T) Value { return choice[T]{value, allowed} }

type choice[T ~string] struct {
	value   *T
	allowed []T
}

func (c choice[T]) words() []string {
	words := make([]string, len(c.allowed))
	for i, a := range c.allowed {
		words[i] = string(a)
	}
	return words
}

func (c choice[T]) String() string { return text(c.value, func(v T) string { return string(v) }) }
func (c choice[T]) Type() string   { return strings.Join(c.words(), "|") }

func (c choice[T]) Set(s string) error {
	if !slices.Contains(c.allowed, T(s)) {
		hint := spelling.Nearest(s, c.words())
		if hint != "" {
			hint = "; " + hint
		}
		return fmt.Errorf("%q is none of %s%s", s, strings.Join(c.words(), ", "), hint)
	}
	*c.value = T(s)
	return nil
}

// GPUs returns a value with GPUs, as in docker run --gpus. No text is none, which no flag may be left with.
func GPUs(value *container.GPUs) Value { return gpus{value} }

type gpus struct{ value *container.GPUs }

func (g gpus) String() string     { return text(g.value, container.GPUs.String) }
func (g gpus) Type() string       { return "string" } // the flag's usage shows the grammar
func (g gpus) Set(s string) error { return g.value.UnmarshalText([]byte(s)) }

// Address returns a value with an IP address of a host. The zero address is none.
func Address(value *netip.Addr) Value { return address{value} }

type address struct{ value *netip.Addr }

func (a address) String() string {
	return text(a.value, func(v netip.Addr) string {
		if !v.IsValid() {
			return ""
		}
		return v.String()
	})
}

func (a address) Type() string { return "ADDRESS" }

func (a address) Set(s string) error {
	addr, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return fmt.Errorf("%q is no IP address, as 0.0.0.0 is one", s)
	case addr.Zone() != "": // Docker drops the zone, and publishes on all addresses then
		return fmt.Errorf("%q has a zone, which container engines do not take", s)
	case addr.IsMulticast(), addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%q is no address of a host", s)
	}
	*a.value = addr
	return nil
}

// List returns a value with several values, separated by commas, none of which stands twice. Setting it puts them in
// the place of those that there are.
func List[T comparable](values *[]T, parse func(string) (T, error)) Value {
	return list[T]{values, parse}
}

type list[T comparable] struct {
	values *[]T
	parse  func(string) (T, error)
}

func (l list[T]) String() string {
	return text(l.values, func(values []T) string {
		words := make([]string, len(values))
		for i, v := range values {
			words[i] = fmt.Sprint(v)
		}
		return strings.Join(words, ",")
	})
}

func (l list[T]) Type() string { return "N,..." }

func (l list[T]) Set(s string) error {
	var values []T
	for word := range strings.SplitSeq(s, ",") {
		v, err := l.parse(strings.TrimSpace(word))
		if err != nil {
			return err
		}
		if slices.Contains(values, v) {
			return fmt.Errorf("%v stands twice", v)
		}
		values = append(values, v)
	}
	*l.values = values
	return nil
}

// text writes the value at a place, and nothing where there is no place.
func text[T any](place *T, write func(T) string) string {
	if place == nil {
		return ""
	}
	return write(*place)
}
