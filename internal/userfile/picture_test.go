package userfile_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/dalirun/dalirun/internal/userfile"
)

// A picture is read whole and looked at; who has ended is not told what is wrong with it.
func TestPicture(t *testing.T) {
	t.Parallel()
	coffee, err := os.ReadFile(filepath.FromSlash("../../assets/pictures/coffee.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	data, info, err := (&userfile.Reader{Stdin: bytes.NewReader(coffee)}).Picture(t.Context(), "-")
	if err != nil || !bytes.Equal(data, coffee) || info.Width != 600 || info.Height != 400 {
		t.Errorf("%d bytes, %+v, %v", len(data), info, err)
	}
	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stopped)
	if _, err := userfile.CheckPicture(ctx, "cut.jpg", coffee[:len(coffee)/2]); !errors.Is(err, stopped) {
		t.Errorf("stopped: %v", err)
	}
}
