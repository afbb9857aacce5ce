package docker

import (
	"encoding/csv"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/dalirun/dalirun/internal/cdi"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/shell"
)

// Repeat returns the docker run command that does what Run does with spec. It has --rm and neither name nor labels,
// because such a container is the user's own. It mounts folders, also where Run would copy them.
func (r *Runtime) Repeat(spec container.Spec) string {
	f, _ := r.remembered() // no request is sent: Repeat is used when the engine has failed, too
	args := []string{"docker"}
	if r.options.Host != "" {
		args = append(args, "--host", r.options.Host)
	}
	args = append(args, "run", "--rm")
	flag := func(name, value string) { args = append(args, "--"+name+"="+value) }
	if spec.Init {
		args = append(args, "--init")
	}
	flag("user", r.user(f))
	flag("cap-drop", "ALL")
	for _, option := range securityOptions(f) {
		flag("security-opt", option)
	}
	if spec.ReadOnly {
		args = append(args, "--read-only")
	}
	for _, target := range slices.Sorted(maps.Keys(spec.Tmpfs)) {
		flag("tmpfs", target+":"+tmpfsOptions(spec.Tmpfs[target]))
	}
	limits(spec, flag)
	switch devices, _ := cdi.Request(spec.GPUs, f.info); {
	case spec.GPUs.IsZero():
	case len(devices) > 0: // as Run asks; Podman ignores --gpus without a word
		for _, device := range devices {
			flag("device", device)
		}
	default:
		flag("gpus", spec.GPUs.CSV())
	}
	network(spec, f, flag)
	inputs, outputs, short := splitBinds(spec, f)
	for _, bind := range short {
		flag("volume", bind)
	}
	for _, m := range inputs {
		flag("mount", mountFlag(m, "readonly"))
	}
	for _, m := range outputs {
		flag("mount", mountFlag(m))
	}
	for _, e := range environment(spec.Env) {
		flag("env", e)
	}
	args = append(args, spec.Image)
	args = append(args, spec.Command...)
	return shell.Line(args...)
}

func limits(spec container.Spec, flag func(name, value string)) {
	for _, limit := range []struct {
		name  string
		value int64
	}{
		{"shm-size", spec.Shm},
		{"memory", spec.Memory},
		{"memory-swap", spec.Memory},
		{"pids-limit", spec.Pids},
		{"stop-timeout", int64(wholeSeconds(spec.Grace))},
	} {
		if limit.value > 0 {
			flag(limit.name, strconv.FormatInt(limit.value, 10))
		}
	}
}

func network(spec container.Spec, f facts, flag func(name, value string)) {
	if spec.Network != container.NetworkPublish {
		flag("network", "none")
		return
	}
	for _, p := range spec.Publish {
		host := ""
		if p.Host != 0 {
			host = strconv.Itoa(int(p.Host))
		}
		flag("publish", net.JoinHostPort(hostIP(p, f), host)+":"+strconv.Itoa(int(p.Container)))
	}
}

// mountFlag returns the CSV that --mount reads, in which a comma in a path is quoted.
func mountFlag(m container.Mount, options ...string) string {
	var b strings.Builder
	w := csv.NewWriter(&b)
	// never fails: it writes to memory
	_ = w.Write(append([]string{"type=bind", "source=" + m.Source, "target=" + m.Target}, options...))
	w.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}
