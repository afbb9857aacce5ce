package cli

import (
	"context"
	"errors"
	"os"
	"syscall"

	"github.com/dalirun/dalirun/pipeline"
)

// ExitCode is what the process ends with. Scripts depend on the numbers: they never change. docs/exit-codes.md is
// generated from [ExitCodes].
type ExitCode int

// The exit codes.
const (
	ExitOK           ExitCode = 0
	ExitUnclassified ExitCode = 1
	ExitUsage        ExitCode = 2
	ExitEnvironment  ExitCode = 3
	ExitContainer    ExitCode = 4
	ExitNotReady     ExitCode = 5
	ExitNotVerified  ExitCode = 6
	ExitGate         ExitCode = 7
	ExitSIGHUP       ExitCode = 129
	ExitSIGINT       ExitCode = 130
	ExitSIGTERM      ExitCode = 143
)

// ExitMeaning says what an exit code means and what to do about it.
type ExitMeaning struct {
	Code           ExitCode
	Means, Typical string
}

// ExitCodes are all exit codes, in order.
func ExitCodes() []ExitMeaning {
	return []ExitMeaning{
		{
			ExitOK, "all that was asked for was done",
			"`e2e`: the served answer is PyTorch's; `serve`: the server drained, or had nothing to drain, " +
				"after Ctrl-C, SIGTERM, SIGHUP or `dalirun stop`; `ps`: whatever it says of servers; " +
				"`status`: the server is healthy or busy; `stop` and `gc`: also where there was nothing to do; " +
				"`logs --follow`: after the end of the server, and after a signal",
		},
		{ExitUnclassified, "an error that fits no other code", "please report it"},
		{
			ExitUsage, "usage or configuration",
			"an unknown flag or key, a value out of range or empty, a file that was named and is not there or is none, " +
				"a picture that is refused, a baseline of another environment",
		},
		{
			ExitEnvironment, "the environment lacks something, or something is in the way",
			"no container engine; no GPU; an image or the pretrained weights cannot be had; " +
				"a file that was named may not be read; a named port is taken; " +
				"`--frozen`: the run is not that of its lock, or has none; " +
				"`serve`: the workspace has a server already, healthy or not; " +
				"`stop`: the server is another user's or host's; `reproduce`: the record lacks what it needs; " +
				"`doctor`: a run would fail; " +
				"the cache or the workspace cannot be used; the disk is full; stdout cannot be written to",
		},
		{
			ExitContainer, "a step's container failed",
			"read its last lines and its log; the error has the line to repeat it by hand, " +
				"until the next run with the same cache, which removes what was half made",
		},
		{
			ExitNotReady, "there is no server, or it is not ready, or not healthy any more",
			"`logs`: none has run; `classify` and `status`: none runs; " +
				"`status`: it is not healthy, or with --watch it is gone; " +
				"it exited, or others than dalirun stopped or removed it; " +
				"a model did not load, hung or does not answer; it was restarted without its models; " +
				"`bench`: no request was answered",
		},
		{
			ExitNotVerified, "verification failed",
			"the served answer is not PyTorch's: the error says which of the three comparisons is off; " +
				"`reproduce`: the recorded answers are not PyTorch's, and the same figures come of them",
		},
		{
			ExitGate, "a performance or accuracy gate failed",
			"`bench --baseline`: figures are worse than the baseline's, and repeated runs confirm it; " +
				"`reproduce`: it came to something else",
		},
		{ExitSIGHUP, "ended by SIGHUP", "the terminal was closed"},
		{ExitSIGINT, "ended by SIGINT", "Ctrl-C; `status --watch`: it goes on until then"},
		{ExitSIGTERM, "ended by SIGTERM", "the CI runner cancelled the job"},
	}
}

// faultCodes are the exit codes of each kind of fault.
func faultCodes() map[pipeline.Kind]ExitCode {
	return map[pipeline.Kind]ExitCode{
		pipeline.Usage: ExitUsage, pipeline.Environment: ExitEnvironment, pipeline.ContainerFailed: ExitContainer,
		pipeline.NotReady: ExitNotReady, pipeline.NotVerified: ExitNotVerified, pipeline.GateFailed: ExitGate,
	}
}

// class is one word or two for the kind of failure, where a program reads which it was.
func (c ExitCode) class() string {
	if c >= ExitSIGHUP {
		return "interrupted"
	}
	for kind, code := range faultCodes() {
		if code == c {
			return kind.String()
		}
	}
	return pipeline.Unclassified.String()
}

// SignalError is the cause of a context that a signal ended.
type SignalError struct{ Signal os.Signal }

// Error names the signal as people do, and not as the system words what it does.
func (e *SignalError) Error() string {
	switch e.Signal {
	case os.Interrupt:
		return "stopped by Ctrl-C (SIGINT)"
	case syscall.SIGTERM:
		return "stopped by SIGTERM"
	case syscall.SIGHUP:
		return "stopped by SIGHUP"
	default:
		return "stopped by " + e.Signal.String()
	}
}

// exitCode is the code of an error that was explained: its fault decides, unless a signal came first.
func exitCode(err error) ExitCode {
	if err == nil {
		return ExitOK
	}
	if stopped, ok := errors.AsType[*SignalError](err); ok {
		switch stopped.Signal {
		case syscall.SIGTERM:
			return ExitSIGTERM
		case syscall.SIGHUP:
			return ExitSIGHUP
		default:
			return ExitSIGINT
		}
	}
	if fault, ok := errors.AsType[*pipeline.Fault](err); ok {
		if code, ok := faultCodes()[fault.Kind]; ok {
			return code
		}
	}
	if errors.Is(err, context.Canceled) {
		return ExitSIGINT
	}
	return ExitUnclassified
}
