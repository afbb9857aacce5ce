package cause

import (
	"regexp"
	"slices"

	"github.com/dalirun/dalirun/internal/parity"
	"github.com/dalirun/dalirun/pipeline"
)

// rules returns the table. Of several rows that match, the first one is used: what ended the run from outside comes
// first, then what a tool or the system says in words that are known, then what kind of error it is.
func rules() []rule {
	return slices.Concat(
		endRules(), diskRules(), networkRules(), engineRules(), toolRules(), verifyRules(), kindRules())
}

// endRules are of a run that others ended.
func endRules() []rule {
	re := regexp.MustCompile
	// of a program, and not of what was found out before one began; one that was killed has none
	worked := []pipeline.Kind{pipeline.Unclassified, pipeline.ContainerFailed, pipeline.NotReady}
	oom := Cause{
		ID: "host-out-of-memory", Turn: Environment,
		Text: "the machine ran out of memory, and the kernel killed a process",
	}
	return []rule{
		{
			cause: Cause{
				ID: "cancelled", Turn: Infrastructure, Retryable: true,
				Text: "somebody, or the CI runner, ended the run",
			},
			when: func(e Evidence) bool {
				const signals = 128
				return e.Failure != nil && e.Failure.ExitCode > signals
			},
		},
		{
			cause: Cause{
				ID: "gpu-lost", Turn: Infrastructure, Retryable: true,
				Text: "the GPU fell off its bus: the machine has to be restarted, and another one can run this meanwhile",
			},
			// https://docs.nvidia.com/deploy/xid-errors: 79 is "GPU has fallen off the bus"; 48, 63, 64, 94 and 95 are of
			// memory, 119 and 120 of the GPU's own processor.
			kernel: re(`NVRM: Xid .*: (79|119|120),`), kinds: worked,
		},
		{
			cause: Cause{
				ID: "gpu-faulty", Turn: Infrastructure, Retryable: true,
				Text: "the GPU's memory is faulty: the machine is to be taken out of service, and another one can run this",
			},
			kernel: re(`NVRM: Xid .*: (48|63|64|94|95),`), kinds: worked,
		},
		{
			cause: oom,
			// Whatever it was: the kernel kills others' programs too, and what failed here was killed.
			kernel: re(`Out of memory: Killed process`), kinds: worked, says: re(`\bwas killed\b|status 137\b`),
		},
		{
			cause: oom, kernel: re(`Out of memory: Killed process \d+ \(dalirun\)`),
			when: func(e Evidence) bool { return e.Failure == nil },
		},
		{
			cause: Cause{
				ID: "killed", Turn: Infrastructure, Retryable: true,
				Text: "the run was killed, or its machine went away: the record ends in its middle",
			},
			killed: true,
		},
	}
}

// diskRules are of disks and files of this host, and of the container engine's disk.
func diskRules() []rule {
	re := regexp.MustCompile
	diskBroken := Cause{ID: "disk-broken", Turn: Environment, Text: "a disk of this machine does not read or write"}
	return []rule{
		{
			cause: Cause{
				ID: "engine-disk-full", Turn: Environment,
				Text: "the disk is full on which the container engine stores images and containers",
			},
			is: []string{isEngineFull},
		},
		{
			cause: Cause{
				ID: "engine-disk-full", Turn: Environment,
				Text: "the images do not fit on the disk of the container engine",
			},
			checks: []string{"image disk"},
		},
		{
			cause: Cause{ID: "disk-full", Turn: Environment, Text: "a disk of this machine is full, or a quota is used up"},
			is:    []string{isFull, isQuota},
		},
		{
			cause: Cause{ID: "disk-read-only", Turn: Environment, Text: "a file system that is written to is read-only"},
			is:    []string{isReadOnly},
		},
		{
			cause: diskBroken,
			is:    []string{isBroken},
		},
		{
			cause: diskBroken,
			says:  re(`Input/output error`),
		},
		{
			cause: Cause{ID: "disk-silent", Turn: Environment, Text: "a disk of the network gives no answer"},
			is:    []string{isSilent},
		},
	}
}

func noPermission() Cause {
	return Cause{
		ID: "no-permission", Turn: Environment, Text: "this user may not read or write a file or folder that is needed",
	}
}

// engineRules are of the container engine.
func engineRules() []rule {
	re := regexp.MustCompile
	engineDied := Cause{
		ID: "engine-died", Turn: Infrastructure, Retryable: true,
		Text: "the container engine ended or was restarted while the run was at work",
	}
	portTaken := Cause{ID: "port-taken", Turn: Environment, Text: "another program has a port of the server"}
	noAddress := Cause{ID: "no-address", Turn: Environment, Text: "the machine has no such address"}
	return []rule{
		{
			cause: engineDied,
			is:    []string{isUnreachable}, inStep: true,
		},
		{
			cause: engineDied,
			// What a container prints breaks off before the container has ended.
			says: re(`output of \S+: .*(unexpected EOF|connection reset|broken pipe|closed network connection)`), inStep: true,
		},
		{
			cause: Cause{ID: "engine-missing", Turn: Environment, Text: "no container engine answers"},
			is:    []string{isUnreachable},
		},
		{
			cause: Cause{ID: "engine-settings", Turn: Environment, Text: "the container engine does not take these settings"},
			is:    []string{isSettings},
		},
		{
			cause: Cause{
				ID: "engine-failing", Turn: Environment, Text: "the container engine answers with an error of its own",
			},
			is: []string{isFailing},
		},
		{
			cause: Cause{
				ID: "engine-denied", Turn: Environment, Text: "this user may not talk to the container engine",
			},
			is: []string{isDeniedUser},
		},
		{cause: noPermission(), is: []string{isPermission}},
		{
			cause: portTaken,
			is:    []string{isPortTaken},
		},
		{
			cause:  portTaken,
			checks: []string{"ports"}, says: re(`is in use`),
		},
		{
			cause: noAddress,
			is:    []string{isNoAddress},
		},
		{
			cause:  noAddress,
			checks: []string{"ports"}, says: re(`has no such address`),
		},
		{
			cause: Cause{ID: "engine-without-init", Turn: Environment, Text: "the container engine has no docker-init"},
			is:    []string{isNoInit},
		},
		{
			cause: Cause{
				ID: "server-there", Turn: Environment, Text: "the workspace has a server already",
			},
			says: re(`has a server already|serves already|is served already`), kinds: []pipeline.Kind{pipeline.Environment},
		},
	}
}

// verifyRules are of answers that are not PyTorch's.
func verifyRules() []rule {
	off := func(name parity.Name, offs ...parity.Name) func(Evidence) bool {
		return func(e Evidence) bool {
			if e.Parity == nil {
				return false
			}
			for _, c := range e.Parity.Comparisons {
				if c.Name == name && c.OK || slices.Contains(offs, c.Name) && !c.OK {
					return false
				}
			}
			return true
		}
	}
	return []rule{
		{
			cause: Cause{ID: "preprocessing-differs", Turn: Product, Text: "DALI's tensor is not PyTorch's"},
			is:    []string{isOff}, when: off(parity.Preprocessing),
			tell: func(e Evidence, text string) string {
				if e.Preprocessing != "" {
					text += ": " + e.Preprocessing
				}
				return text
			},
		},
		{
			cause: Cause{
				ID: "model-differs", Turn: Product,
				Text: "the served model does not answer PyTorch's tensor as PyTorch does: it has other weights, another " +
					"precision, or was built wrongly",
			},
			is: []string{isOff}, when: off(parity.Model),
		},
		{
			cause: Cause{
				ID: "ensemble-differs", Turn: Product,
				Text: "preprocessing and model are right, and the ensemble of both is not: its configuration is wrong",
			},
			is: []string{isOff}, when: off(parity.Ensemble, parity.Preprocessing, parity.Model),
		},
		{
			cause: Cause{ID: "answers-differ", Turn: Product, Text: "the server's answers cannot be compared with PyTorch's"},
			kinds: []pipeline.Kind{pipeline.NotVerified},
		},
	}
}

// kindRules are what is known of an error by its kind alone.
func kindRules() []rule {
	re := regexp.MustCompile
	return []rule{
		{
			cause: Cause{
				ID: "configuration", Turn: Product, Text: "a flag, a variable, the configuration or a file that was named is wrong",
			},
			kinds: []pipeline.Kind{pipeline.Usage},
		},
		{
			cause: Cause{
				ID: "model-hangs", Turn: Product, Text: "the server, or a model in it, did not get ready in time",
			},
			kinds: []pipeline.Kind{pipeline.NotReady}, says: re(`within \d|did not|does not answer`),
		},
		{
			cause: Cause{ID: "server-fails", Turn: Product, Text: "tritonserver ended, or does not answer as it should"},
			kinds: []pipeline.Kind{pipeline.NotReady},
		},
		{
			cause: Cause{
				ID: "weights-unfit", Turn: Product,
				Text: "the checkpoint is none of tensors alone, or not of this network",
				Hint: "name with --weights what torch.save(model.state_dict(), FILE) wrote of this very network",
			},
			// network.py says so of what --weights names.
			kinds: []pipeline.Kind{pipeline.ContainerFailed},
			says:  re(`: .* (does not fit |is not a PyTorch checkpoint|holds .*: save model\.state_dict|has NaN or infinity)`),
		},
		{
			cause: Cause{ID: "step-hangs", Turn: Product, Text: "the program of a step did not end in time"},
			kinds: []pipeline.Kind{pipeline.ContainerFailed}, says: re(`did not end within`),
		},
		{
			cause: Cause{ID: "step-fails", Turn: Product, Text: "the program of a step ended with an error"},
			kinds: []pipeline.Kind{pipeline.ContainerFailed},
		},
		{
			cause: Cause{ID: "gate", Turn: Product, Text: "a figure is worse than it may be"},
			kinds: []pipeline.Kind{pipeline.GateFailed},
		},
		{
			cause: Cause{ID: "environment", Turn: Environment, Text: "the machine lacks something, or something is in the way"},
			kinds: []pipeline.Kind{pipeline.Environment},
		},
	}
}
