package flagvalue

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/dalirun/dalirun/internal/target"
)

// ranged is a value from low to high.
type ranged[T cmp.Ordered] struct {
	value     *T
	low, high T
	kind      string // of the value, with an example
	parse     func(string) (T, error)
	write     func(T) string
}

func (r ranged[T]) String() string { return text(r.value, r.write) }
func (r ranged[T]) Type() string   { return r.write(r.low) + ".." + r.write(r.high) }

func (r ranged[T]) Set(s string) error {
	v, err := r.parse(s)
	bounds := r.write(r.low) + " to " + r.write(r.high)
	switch {
	case err != nil:
		return fmt.Errorf("%q is no %s (%s)", s, r.kind, bounds)
	case v < r.low || v > r.high:
		return fmt.Errorf("%s is out of range; the nearest is %s (%s)", s, r.write(min(max(v, r.low), r.high)), bounds)
	}
	*r.value = v
	return nil
}

// Int returns a value with a whole number from low to high.
func Int(value *int, low, high int) Value {
	return ranged[int]{value, low, high, "whole number", parseInt, strconv.Itoa}
}

// parseInt takes a number that is larger than any int for the largest one.
func parseInt(s string) (int, error) {
	v, err := strconv.Atoi(s)
	if errors.Is(err, strconv.ErrRange) {
		err = nil
	}
	return v, err
}

// Bytes returns a value with a number of bytes from low to high, in the units of docker run --memory.
func Bytes(value *int64, low, high int64) Value {
	return ranged[int64]{value, low, high, "size, as in 8g", units.RAMInBytes, WriteBytes}
}

// WriteBytes returns a number of bytes as a user writes it, in the largest unit that shows it whole.
func WriteBytes(n int64) string {
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

// Duration returns a value with a duration from low to high.
func Duration(value *time.Duration, low, high time.Duration) Value {
	return ranged[time.Duration]{value, low, high, "duration, as in 90s or 5m", time.ParseDuration, writeDuration}
}

// Delay returns a value with a duration of up to a second, in whole microseconds, in which Triton counts.
func Delay(value *time.Duration) Value {
	parse := func(s string) (time.Duration, error) {
		v, err := time.ParseDuration(s)
		if v%time.Microsecond != 0 {
			err = strconv.ErrSyntax
		}
		return v, err
	}
	return ranged[time.Duration]{
		value, 0, time.Second, "whole number of microseconds, as in 500us or 2ms", parse, writeDuration,
	}
}

// writeDuration leaves out the units that are 0.
func writeDuration(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// Share returns a value with a part of a whole, from 0.01 to 1. None of it is not among them: 0 stands for the usual
// share.
func Share(value *float64) Value {
	write := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	return ranged[float64]{value, 0.01, 1, "number", parseFloat, write}
}

// Percentage returns a value with a share of up to 10, which is written in percent.
func Percentage(share *float64) Value {
	const whole = 100
	parse := func(s string) (float64, error) {
		number, isPercent := strings.CutSuffix(s, "%")
		if !isPercent {
			return 0, strconv.ErrSyntax
		}
		v, err := parseFloat(number)
		return v / whole, err
	}
	write := func(v float64) string { return strconv.FormatFloat(whole*v, 'g', 6, 64) + "%" }
	return ranged[float64]{share, 0, 10, "share in percent, as in 5%", parse, write}
}

func parseFloat(s string) (float64, error) {
	v, err := strconv.ParseFloat(s, 64)
	if errors.Is(err, strconv.ErrRange) {
		err = nil // it is infinite
	}
	if math.IsNaN(v) {
		err = strconv.ErrSyntax
	}
	return v, err
}

// mostInFlight is the largest value of [Concurrency].
const mostInFlight = 1 << 16

// Concurrency returns a value with numbers of requests at a time.
func Concurrency(values *[]int) Value {
	return List(values, func(s string) (v int, err error) {
		err = Int(&v, 1, mostInFlight).Set(s)
		return v, err
	})
}

// Rates returns a value with numbers of requests a second.
func Rates(values *[]float64) Value {
	return List(values, func(s string) (float64, error) {
		v, err := parseFloat(s)
		if err != nil || v <= 0 || math.IsInf(v, 1) {
			return 0, fmt.Errorf("%q is no number above 0", s)
		}
		return v, nil
	})
}

// PictureSize returns a value with a width and a height that a JPEG can have.
func PictureSize(value *target.PictureSize) Value { return pictureSize{value} }

type pictureSize struct{ value *target.PictureSize }

func (p pictureSize) String() string {
	return text(p.value, func(v target.PictureSize) string { return fmt.Sprintf("%dx%d", v.Width, v.Height) })
}

func (p pictureSize) Type() string { return "WxH" }

func (p pictureSize) Set(s string) error {
	const most = 65535
	width, height, _ := strings.Cut(s, "x")
	var size target.PictureSize
	if err := errors.Join(
		Int(&size.Width, 1, most).Set(width), Int(&size.Height, 1, most).Set(height),
	); err != nil {
		return fmt.Errorf("%q is no size in pixels, as in 600x400 (1 to %d each)", s, most)
	}
	*p.value = size
	return nil
}
