package cli

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/doctor"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/steps"
)

// The container engine is asked once what it is.
func TestEngineProbe(t *testing.T) {
	t.Parallel()
	fake := &containertest.Fake{About: container.Info{Version: "29.0.0"}}
	p := (&App{}).probes(fake, nil)
	for range 2 {
		if info, err := p.Runtime.Info(t.Context()); err != nil || info.Version != "29.0.0" {
			t.Errorf("%+v, %v", info, err)
		}
		fake.InfoErr = errors.New("it was asked again")
	}
	if p.Runtime.Remote() {
		t.Error("one that does not say it is on another host")
	}
}

// What doctor asks beside each other ends before it does.
func TestDoctorHasTime(t *testing.T) {
	t.Parallel()
	for name, way := range map[string]time.Duration{
		"nvidia-smi, then the registry": doctor.SMIWithin + registryWithin, "a container engine, then the registry": doctor.EngineWithin + registryWithin,
		"nvidia-smi, then an image of the container engine": doctor.SMIWithin + doctor.AnswerWithin,
		"weights": steps.ReachWithin, "a disk, asked thrice": 3 * host.DiskWithin,
	} {
		if way >= doctor.Within {
			t.Errorf("%s: %s, and doctor ends after %s", name, way, doctor.Within)
		}
	}
}

// A bundle that is stopped half way leaves no file.
func TestBundleStopped(t *testing.T) {
	t.Parallel()
	app := appIn(map[string]string{"DOCKER_HOST": "unix:///nowhere.sock"}, io.Discard, io.Discard)
	var r runFlags
	cmd := &cobra.Command{Use: "doctor"}
	r.flags(app, cmd)
	if err := errors.Join(cmd.ParseFlags([]string{"--accel=cpu", "--weights=random:0", "--workspace=" + t.TempDir()}), r.check(t.Context())); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "report.tar.gz")
	f, err := userfile.CreateNew("--bundle", name, "make the bundle")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(&SignalError{Signal: os.Interrupt})
	x, findings := doctor.Examine(ctx, app.patient(ctx, &r, silence{}))
	if err := app.writeBundle(ctx, f, cmd, &r, x, findings); err == nil {
		t.Error("no error")
	}
	if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is there: %v", err)
	}
}

// Every function of what doctor asks is a real one in dalirun: a nil one is a crash in front of a user.
func TestPatientIsComplete(t *testing.T) {
	t.Parallel()
	p := appIn(nil, io.Discard, io.Discard).patient(t.Context(), &runFlags{}, silence{})
	for _, asked := range []any{p, p.Host, p.Probes} {
		v := reflect.ValueOf(asked)
		for i := range v.NumField() {
			if kind := v.Field(i).Kind(); (kind == reflect.Func || kind == reflect.Interface) && v.Field(i).IsNil() &&
				!strings.HasPrefix(v.Type().Field(i).Name, "Silent") { // which are errors
				t.Errorf("%s.%s is nil: say what it is in App.patient", v.Type(), v.Type().Field(i).Name)
			}
		}
	}
}
