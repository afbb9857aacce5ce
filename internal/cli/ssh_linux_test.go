package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A command that ends while an engine behind ssh is frozen leaves no ssh behind.
func TestNoSSHIsLeft(t *testing.T) {
	bin := t.TempDir()
	pid := filepath.Join(bin, "pid")
	ssh := "#!/bin/sh\n[ \"$1\" = -G ] && exit 1\ntrap '' TERM\necho $$ >" + pid + ".part\nmv " + pid + ".part " + pid + "\nwhile :; do sleep 1; done\n"
	if err := os.WriteFile(filepath.Join(bin, "ssh"), []byte(ssh), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	ctx, cancel := context.WithCancelCause(t.Context())
	var program string
	go func() {
		for ticker := time.NewTicker(10 * time.Millisecond); ; <-ticker.C {
			if text, err := os.ReadFile(pid); err == nil {
				program = strings.TrimSpace(string(text))
				cancel(&SignalError{Signal: os.Interrupt})
				return
			}
		}
	}()
	var stdout, stderr bytes.Buffer
	app := appIn(map[string]string{"HOME": t.TempDir(), "DOCKER_HOST": "ssh://me@far.example"}, &stdout, &stderr)
	if code := app.Run(ctx, []string{"ps"}); code != 130 || program == "" {
		t.Errorf("it ended with %d: %s", code, &stderr)
	}
	if state, err := os.ReadFile(fmt.Sprintf("/proc/%s/stat", program)); err == nil {
		t.Errorf("it is left: %s", state)
	}
}
