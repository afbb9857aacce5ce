package remedy

import (
	"errors"

	"github.com/dalirun/dalirun/internal/container"
)

// Engine returns what to do about an error of the container engine; ok is false if err is none. Where the engine cannot
// be talked to, its adapter says it, which knows the endpoint and the settings that lead there.
func Engine(err error) (hint string, ok bool) {
	advised := container.Advice(err)
	return find(err, []advice{
		{container.ErrNoGPU, InstallToolkit + "; or " + UseCPU},
		{container.ErrNoInit, InstallInit},
		{container.ErrPortTaken, FreePort},
		{container.ErrNoAddress, OtherHost},
		{container.ErrNoSpace, FreeEngineDisk},
		{container.ErrUnreachable, advised},
		{container.ErrFailing, advised},
		{container.ErrPermission, advised},
		{container.ErrSettings, advised},
	})
}

// EngineInRun is [Engine] of an engine under which a container ran: one that does not answer any more has died.
func EngineInRun(err error) (hint string, ok bool) {
	if errors.Is(err, container.ErrUnreachable) {
		return EngineDied, true
	}
	return Engine(err)
}

// Registry returns what to do about an error of a registry; ok is false if err is none. The hint is empty where that
// depends on the image.
func Registry(err error) (hint string, ok bool) {
	return find(err, []advice{{container.ErrDenied, LogIn}, {container.ErrRegistry, ""}})
}

// advice is what to do about an error.
type advice struct {
	err  error
	hint string
}

// find returns the hint of the first row that err is.
func find(err error, rows []advice) (hint string, ok bool) {
	for _, row := range rows {
		if errors.Is(err, row.err) {
			return row.hint, true
		}
	}
	return "", false
}
