package cli

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/spelling"
	"github.com/dalirun/dalirun/internal/target"
)

// choice is a flag with a few values.
type choice[T ~string] struct {
	value   *T
	allowed []T
}

// choiceVar adds a flag with a few values, of which value is the default.
func choiceVar[T ~string](flags *pflag.FlagSet, value *T, name string, allowed []T, usage string) {
	flags.Var(choice[T]{value, allowed}, name, usage)
}

func (c choice[T]) words() []string {
	words := make([]string, len(c.allowed))
	for i, a := range c.allowed {
		words[i] = string(a)
	}
	return words
}

// String returns the value.
func (c choice[T]) String() string {
	if c.value == nil { // pflag looks at the zero value
		return ""
	}
	return string(*c.value)
}

// Type names the values in the help.
func (c choice[T]) Type() string { return strings.Join(c.words(), "|") }

// Set takes one of the allowed values.
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

// number is a flag with a range.
type number struct {
	value     *int
	low, high int
}

// numberVar adds a flag with a whole number of a range, of which value is the default.
func numberVar(flags *pflag.FlagSet, value *int, name string, low, high int, usage string) {
	flags.Var(number{value, low, high}, name, usage)
}

// String returns the value.
func (n number) String() string {
	if n.value == nil { // pflag looks at the zero value
		return ""
	}
	return strconv.Itoa(*n.value)
}

// Type names the range in the help.
func (n number) Type() string { return fmt.Sprintf("%d..%d", n.low, n.high) }

// Set takes a whole number in the range.
func (n number) Set(s string) error {
	v, err := strconv.Atoi(s)
	switch {
	case errors.Is(err, strconv.ErrSyntax):
		return fmt.Errorf("%q is not a whole number from %d to %d", s, n.low, n.high)
	case v < n.low || v > n.high: // or larger than any int, which Atoi makes the largest
		return fmt.Errorf("%s is out of range; the nearest is %d (%d to %d)", s, min(max(v, n.low), n.high), n.low, n.high)
	}
	*n.value = v
	return nil
}

// memorySize is a flag with a number of bytes in a range, as in 8g.
type memorySize struct {
	value     *int64
	low, high int64
}

// String returns the value as it is written.
func (m memorySize) String() string {
	if m.value == nil { // pflag looks at the zero value
		return ""
	}
	return writtenBytes(*m.value)
}

// Type names the range in the help.
func (m memorySize) Type() string { return writtenBytes(m.low) + ".." + writtenBytes(m.high) }

// Set takes a size in the range, in the units of docker run --memory.
func (m memorySize) Set(s string) error {
	v, err := units.RAMInBytes(s)
	if err != nil {
		return fmt.Errorf("%q is no size, as in 8g (%s to %s)", s, writtenBytes(m.low), writtenBytes(m.high))
	}
	if v < m.low || v > m.high {
		return fmt.Errorf("%s is out of range; the nearest is %s (%s to %s)",
			s, writtenBytes(min(max(v, m.low), m.high)), writtenBytes(m.low), writtenBytes(m.high))
	}
	*m.value = v
	return nil
}

// writtenBytes is n in the largest unit that shows it whole.
func writtenBytes(n int64) string {
	for _, unit := range []struct {
		bytes  int64
		letter string
	}{{units.GiB, "g"}, {units.MiB, "m"}, {units.KiB, "k"}} {
		if n%unit.bytes == 0 {
			return fmt.Sprintf("%d%s", n/unit.bytes, unit.letter)
		}
	}
	return fmt.Sprintf("%db", n)
}

// gpusValue is a flag with GPUs, as in docker run --gpus.
type gpusValue struct{ value *container.GPUs }

// String returns the value as it is written.
func (g gpusValue) String() string {
	if g.value == nil { // pflag looks at the zero value
		return ""
	}
	return g.value.String()
}

// Type names the grammar in the help; the flag's usage shows it.
func (g gpusValue) Type() string { return "string" }

// Set takes GPUs. No text is none, which no flag may be left with.
func (g gpusValue) Set(s string) error { return g.value.UnmarshalText([]byte(s)) }

// addressValue is a flag with an IP address.
type addressValue struct{ value *netip.Addr }

// String returns the value, or nothing for none.
func (a addressValue) String() string {
	if a.value == nil || !a.value.IsValid() {
		return ""
	}
	return a.value.String()
}

// Type names the values in the help.
func (a addressValue) Type() string { return "ADDRESS" }

// Set takes an address.
func (a addressValue) Set(s string) error {
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

// period is a flag with a duration of a range.
type period struct {
	value     *time.Duration
	low, high time.Duration
}

// String returns the value.
func (p period) String() string {
	if p.value == nil { // pflag looks at the zero value
		return ""
	}
	return p.value.String()
}

// Type names the range in the help.
func (p period) Type() string { return fmt.Sprintf("%s..%s", p.low, p.high) }

// Set takes a duration in the range.
func (p period) Set(s string) error {
	v, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return fmt.Errorf("%q is no duration, as in 2s (%s to %s)", s, p.low, p.high)
	case v < p.low || v > p.high:
		return fmt.Errorf("%s is out of range; the nearest is %s (%s to %s)", s, min(max(v, p.low), p.high), p.low, p.high)
	}
	*p.value = v
	return nil
}

// delay is a flag with a duration of up to a second, in whole microseconds, in which Triton counts.
type delay struct{ value *time.Duration }

// String returns the value.
func (d delay) String() string {
	if d.value == nil { // pflag looks at the zero value
		return ""
	}
	return d.value.String()
}

// Type names the range in the help.
func (d delay) Type() string { return "0s..1s" }

// Set takes a duration in the range.
func (d delay) Set(s string) error {
	v, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return fmt.Errorf("%q is no duration, as in 500us or 2ms (0s to 1s)", s)
	case v < 0 || v > time.Second:
		return fmt.Errorf("%s is out of range; the nearest is %s (0s to 1s)", s, min(max(v, 0), time.Second))
	case v%time.Microsecond != 0:
		return fmt.Errorf("%s is no whole number of microseconds", s)
	}
	*d.value = v
	return nil
}

// span is a flag with a duration of a range.
type span struct {
	value     *time.Duration
	low, high time.Duration
}

// String returns the value.
func (d span) String() string {
	if d.value == nil { // pflag looks at the zero value
		return ""
	}
	return writtenSpan(*d.value)
}

// Type names the range in the help.
func (d span) Type() string { return writtenSpan(d.low) + ".." + writtenSpan(d.high) }

// Set takes a duration in the range.
func (d span) Set(s string) error {
	v, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return fmt.Errorf("%q is no duration, as in 90s or 5m (%s to %s)", s, writtenSpan(d.low), writtenSpan(d.high))
	case v < d.low || v > d.high:
		return fmt.Errorf("%s is out of range; the nearest is %s (%s to %s)",
			s, writtenSpan(min(max(v, d.low), d.high)), writtenSpan(d.low), writtenSpan(d.high))
	}
	*d.value = v
	return nil
}

// writtenSpan is a duration without the units that are 0.
func writtenSpan(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// share is a flag with a part of a whole. None of it is no value: that stands for the usual share.
type share struct{ value *float64 }

// String returns the value.
func (v share) String() string {
	if v.value == nil { // pflag looks at the zero value
		return ""
	}
	return strconv.FormatFloat(*v.value, 'g', -1, 64)
}

// Type names the range in the help.
func (v share) Type() string { return "0.01..1" }

// Set takes a number in the range.
func (v share) Set(s string) error {
	const least = 0.01
	number, err := strconv.ParseFloat(s, 64)
	switch {
	case err != nil || math.IsNaN(number):
		return fmt.Errorf("%q is no number from 0.01 to 1", s)
	case number < least || number > 1:
		return fmt.Errorf("%s is out of range; the nearest is %g (0.01 to 1)", s, min(max(number, least), 1))
	}
	*v.value = number
	return nil
}

// pictureSize is a flag with the width and the height of a picture.
type pictureSize struct{ value *target.PictureSize }

// String returns the value as it is written.
func (p pictureSize) String() string {
	if p.value == nil { // pflag looks at the zero value
		return ""
	}
	return fmt.Sprintf("%dx%d", p.value.Width, p.value.Height)
}

// Type names the form in the help.
func (p pictureSize) Type() string { return "WxH" }

// Set takes a size that a JPEG can have.
func (p pictureSize) Set(s string) error {
	const most = 65535
	width, height, _ := strings.Cut(s, "x")
	var size target.PictureSize
	if err := errors.Join(
		(number{&size.Width, 1, most}).Set(width), (number{&size.Height, 1, most}).Set(height),
	); err != nil {
		return fmt.Errorf("%q is no size in pixels, as in 600x400 (1 to %d each)", s, most)
	}
	*p.value = size
	return nil
}

// list is a flag with several values, separated by commas, none of which stands twice.
type list[T comparable] struct {
	values *[]T
	parse  func(string) (T, error)
}

// String returns the values as they are written.
func (l list[T]) String() string {
	if l.values == nil { // pflag looks at the zero value
		return ""
	}
	words := make([]string, len(*l.values))
	for i, v := range *l.values {
		words[i] = fmt.Sprint(v)
	}
	return strings.Join(words, ",")
}

// Type names the form in the help.
func (l list[T]) Type() string { return "N,..." }

// Set takes all values, in place of those that there are.
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

// wholeNumber is a value of --concurrency.
func wholeNumber(s string) (int, error) {
	const most = 1 << 16
	var v int
	return v, (number{&v, 1, most}).Set(s)
}

// positive is a value of --rate.
func positive(s string) (float64, error) {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(v > 0) || math.IsInf(v, 1) {
		return 0, fmt.Errorf("%q is no number above 0", s)
	}
	return v, nil
}

// percentage is a flag with a share that is written in percent.
type percentage struct{ share *float64 }

const inPercent = 100

// String returns the value as it is written.
func (p percentage) String() string {
	if p.share == nil { // pflag looks at the zero value
		return ""
	}
	return strconv.FormatFloat(inPercent**p.share, 'g', 6, 64) + "%"
}

// Type names the range in the help.
func (p percentage) Type() string { return "0%..1000%" }

// Set takes a number of percent, with its sign.
func (p percentage) Set(s string) error {
	const most = 1000
	text, ok := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(text, 64)
	switch {
	case !ok || err != nil || math.IsNaN(v):
		return fmt.Errorf("%q is no share in percent, as in 5%% (0%% to %d%%)", s, most)
	case v < 0 || v > most:
		return fmt.Errorf("%s is out of range; the nearest is %g%% (0%% to %d%%)", s, min(max(v, 0), most), most)
	}
	*p.share = v / inPercent
	return nil
}
