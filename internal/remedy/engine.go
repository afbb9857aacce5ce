package remedy

import (
	"errors"

	"github.com/dalirun/dalirun/internal/container"
)

// Engine returns what to do about an error of the container engine; ok is false if err is none. The hint is empty where
// the adapter's text says it: that knows the endpoint, its socket and the setting that names it.
func Engine(err error) (hint string, ok bool) {
	return find(err, []advice{
		{container.ErrNoGPU, InstallToolkit + "; or " + UseCPU},
		{container.ErrNoInit, InstallInit},
		{container.ErrPortTaken, FreePort},
		{container.ErrNoAddress, OtherHost},
		{container.ErrNoSpace, FreeEngineDisk},
		{container.ErrUnreachable, ""},
		{container.ErrFailing, ""},
		{container.ErrPermission, ""},
		{container.ErrSettings, ""},
	})
}

// EngineInRun is [Engine] of an engine under which a container ran: one that does not answer any more has died.
func EngineInRun(err error) (hint string, ok bool) {
	if errors.Is(err, container.ErrUnreachable) {
		return EngineDied, true
	}
	return Engine(err)
}

// EngineAtAll returns what to do about an engine that does not say what it is, for who asks for no more than that.
// variables are those to correct if they are wrong, namedBy is the setting that names the engine, if one does. It is
// empty where the adapter's text says it.
func EngineAtAll(err error, variables, namedBy string) string {
	switch {
	case errors.Is(err, container.ErrSettings):
		return "correct or unset " + variables
	case errors.Is(err, container.ErrPermission), errors.Is(err, container.ErrFailing):
		return ""
	case namedBy != "":
		return "start the one there, or name another one: this one is named by " + namedBy
	default:
		return StartEngine
	}
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
