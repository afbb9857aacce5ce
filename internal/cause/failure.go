package cause

import (
	"errors"
	"io/fs"
	"slices"
	"syscall"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/parity"
	"github.com/dalirun/dalirun/internal/registry"
	"github.com/dalirun/dalirun/pipeline"
)

// Failure is the error of a run as plain data: its text, and what it is.
type Failure struct {
	Text      string        `json:"text"`
	Hint      string        `json:"hint,omitempty"`
	Kind      pipeline.Kind `json:"kind"`
	Step      pipeline.ID   `json:"step,omitempty"`
	Sentinels []string      `json:"sentinels,omitempty"` // names of errors that it is
	Registry  registry.Kind `json:"registry,omitempty"`
	Tail      []string      `json:"tail,omitempty"`   // the last output
	Repeat    string        `json:"repeat,omitempty"` // the command line that repeats it by hand
	ExitCode  int           `json:"exit_code"`
}

// The names of sentinels, by which rules tell errors apart.
const (
	isUnreachable = "engine unreachable"
	isFailing     = "engine failing"
	isSettings    = "engine settings"
	isDeniedUser  = "engine denies this user"
	isNotFound    = "not found"
	isDenied      = "registry denied"
	isRegistry    = "registry"
	isNoGPU       = "engine without gpu"
	isNoInit      = "engine without init"
	isPortTaken   = "port taken"
	isNoAddress   = "no address"
	isEngineFull  = "engine disk full"
	isFull        = "disk full"
	isQuota       = "quota"
	isReadOnly    = "read-only"
	isBroken      = "disk broken"
	isSilent      = "disk silent"
	isPermission  = "permission"
	isOff         = "parity"
	isHostNoGPU   = "no gpu"
	isHeld        = "gpu held" // by another job
)

func sentinels() map[string]error {
	return map[string]error{
		isUnreachable: container.ErrUnreachable, isFailing: container.ErrFailing, isSettings: container.ErrSettings,
		isDeniedUser: container.ErrPermission, isNotFound: container.ErrNotFound, isDenied: container.ErrDenied,
		isRegistry: container.ErrRegistry, isNoGPU: container.ErrNoGPU, isNoInit: container.ErrNoInit,
		isPortTaken: container.ErrPortTaken, isNoAddress: container.ErrNoAddress, isEngineFull: container.ErrNoSpace,
		isFull: syscall.ENOSPC, isQuota: syscall.EDQUOT, isReadOnly: syscall.EROFS, isBroken: syscall.EIO,
		isSilent:     host.ErrSilentDisk,
		isPermission: fs.ErrPermission,
		isOff:        parity.ErrOff, isHostNoGPU: host.ErrNoGPU,
	}
}

// FailureOf returns an error, which was explained, as plain data. code is the exit code that it has.
func FailureOf(err error, code int) Failure {
	f := Failure{Text: err.Error(), ExitCode: code}
	for name, sentinel := range sentinels() {
		if errors.Is(err, sentinel) {
			f.Sentinels = append(f.Sentinels, name)
		}
	}
	if _, ok := errors.AsType[*host.BusyError](err); ok {
		f.Sentinels = append(f.Sentinels, isHeld)
	}
	slices.Sort(f.Sentinels)
	if step, ok := errors.AsType[*pipeline.StepError](err); ok {
		f.Step = step.Step
	}
	if asked, ok := errors.AsType[*registry.Error](err); ok {
		f.Registry = asked.Kind
	}
	if fault, ok := errors.AsType[*pipeline.Fault](err); ok {
		f.Kind, f.Hint, f.Tail, f.Repeat = fault.Kind, fault.Hint, fault.Tail, fault.Repeat
	}
	return f
}
