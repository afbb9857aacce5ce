package picture_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/dalirun/dalirun/internal/picture"
	"github.com/dalirun/dalirun/internal/picture/picturetest"
)

// FuzzCheck holds for any bytes: no panic, a refusal with a known reason or a
// size within the limits, and the same answer when zeros follow.
func FuzzCheck(f *testing.F) {
	for _, s := range samples(f) {
		f.Add(s.data)
		f.Add(s.data[:len(s.data)/2])
	}
	for _, r := range picturetest.Table() {
		f.Add(picturetest.Data(f, r.File))
	}
	f.Add(loopingTIFF())
	f.Add([]byte("MM\x00+\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x10\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Add([]byte("GIF89a"))
	f.Add([]byte{})
	reasons := []picture.Reason{picture.Empty, picture.Unknown, picture.Truncated, picture.Malformed, picture.TooLarge, picture.Unsupported}
	f.Fuzz(func(t *testing.T, data []byte) {
		limits := picture.Limits{MaxPixels: 1_000_000, MaxSide: 10_000}
		info, err := picture.Check(data, limits)
		if err != nil {
			var refusal *picture.Error
			if !errors.As(err, &refusal) || !slices.Contains(reasons, refusal.Reason) || refusal.Detail == "" {
				t.Fatalf("refused by %#v", err)
			}
			return
		}
		if info.Format == "" || info.Width < 1 || info.Height < 1 || info.Width > limits.MaxSide || info.Height > limits.MaxSide ||
			int64(info.Width)*int64(info.Height) > limits.MaxPixels {
			t.Fatalf("accepted %+v", info)
		}
		padded, err := picture.Check(append(slices.Clone(data), make([]byte, 7)...), limits)
		if err != nil || padded != info {
			t.Fatalf("with zeros after it: %+v, %v; without: %+v", padded, err, info)
		}
	})
}
