package cli

import (
	"bytes"
	"image"
	"image/color"
	"image/gif"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dalirun/dalirun"
	"github.com/dalirun/dalirun/internal/picture/picturetest"
	"github.com/dalirun/dalirun/triton"
)

// makePictures makes a folder with a good picture and those that must be refused.
func makePictures(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	good, err := dalirun.Assets.ReadFile("assets/pictures/coffee.jpg")
	if err != nil {
		t.Fatal(err)
	}
	var animation bytes.Buffer
	if err := gif.Encode(&animation, image.NewPaletted(image.Rect(0, 0, 2, 2), color.Palette{color.Black, color.White}), nil); err != nil {
		t.Fatal(err)
	}
	pictures := map[string][]byte{
		"coffee.jpg":    good,
		"empty.jpg":     {},
		"truncated.jpg": good[:len(good)/2],
		"text.jpg":      []byte("this is no picture\n"),
		"picture.gif":   animation.Bytes(),
		"huge.jpg":      withSize(t, good, 30_000),
	}
	for _, r := range picturetest.Table() {
		pictures[r.File] = picturetest.Data(t, r.File)
	}
	for name, data := range pictures {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Right on the server, and of a kind that Pillow does not read.
	floats, err := os.ReadFile("../picture/testdata/kinds/tif-rgb-float32.tif")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "floats.tif"), floats, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// withSize lets a JPEG's header claim a width and a height.
func withSize(t *testing.T, jpeg []byte, side uint16) []byte {
	t.Helper()
	at := bytes.Index(jpeg, []byte{0xFF, 0xC0})
	if at < 0 {
		t.Fatal("the picture has no baseline frame header")
	}
	out := bytes.Clone(jpeg)
	high, low := byte(side>>8), byte(side)
	copy(out[at+5:], []byte{high, low, high, low})
	return out
}

func portsAt(ts *testscript.TestScript, addr string) map[uint16]netip.AddrPort {
	parsed, err := netip.ParseAddrPort(addr)
	ts.Check(err)
	return map[uint16]netip.AddrPort{triton.PortGRPC: parsed}
}
