package doctor

import (
	"runtime"
	"strconv"
	"strings"

	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/target"
)

// engine reports the container engine's name, version and address, or why it does not answer.
func (x *Examination) engine() Finding {
	info, err := x.info()
	if err != nil {
		return Finding{} // the obstacle says why, and what to do
	}
	saw := info.Name + " " + info.Version
	if info.APIVersion != "" {
		api := "API " + info.APIVersion
		if info.APISetting != "" {
			api += ", by " + info.APISetting
		}
		saw += " (" + api + ")"
	}
	return Finding{Status: OK, Saw: saw + " at " + info.Endpoint}
}

// platform names the system. It warns of WSL 1.
func (x *Examination) platform() Finding {
	platform := runtime.GOOS + "/" + runtime.GOARCH
	switch kernel := x.Probes.Host.Kernel(); {
	case host.WSL1(kernel):
		return Finding{
			Status: Warn, Saw: platform + " on WSL 1, which has no GPU and runs no container engine of its own",
			Remedy: "in PowerShell `wsl --set-version DISTRIBUTION 2`",
		}
	case host.WSL(kernel):
		return Finding{
			Status: OK,
			Saw:    platform + " on WSL 2: its driver has no whole NVML, so DALI_DISABLE_NVML=1 is set in containers",
		}
	default:
		return Finding{Status: OK, Saw: platform}
	}
}

// ports reports the usual ports that are in use.
func (x *Examination) ports() Finding {
	info, _ := x.info()
	ports := x.Target().Ports
	switch {
	case x.Probes.Runtime.Remote(), info.OtherLoopback:
		return Finding{} // the ports are those of another host or container
	case ports.Untried != "":
		return Finding{Status: Warn, Saw: ports.Untried, Remedy: "name another port, or none and a free one is taken"}
	case len(ports.Taken) == 0:
		return Finding{Status: OK, Saw: "free"}
	default:
		return Finding{Status: OK, Saw: takenPorts(ports.Taken)}
	}
}

// takenPorts says which usual ports are in use, and by whom. It names a program with several ports once.
func takenPorts(taken []target.TakenPort) string {
	var users []string
	ports := map[string][]string{}
	for _, p := range taken {
		if ports[p.User] == nil {
			users = append(users, p.User)
		}
		ports[p.User] = append(ports[p.User], strconv.Itoa(int(p.Port)))
	}
	for i, user := range users {
		numbers := ports[user]
		users[i] = "port " + numbers[0] + " is in use" + user
		if len(numbers) > 1 {
			users[i] = "ports " + printable.List(numbers) + " are in use" + user
		}
	}
	free := "a free one will be taken"
	if len(taken) > 1 {
		free = "free ones will be taken"
	}
	return strings.Join(users, "; ") + ": " + free
}

// weights names the weights that a run would take.
func (x *Examination) weights() Finding {
	weights := x.Target().Weights
	if weights.Kind == target.Pretrained {
		return Finding{Status: OK, Saw: "the pretrained weights can be had"}
	}
	return Finding{Status: OK, Saw: weights.String()}
}

// lock names the lock that the run keeps to.
func (x *Examination) lock() Finding {
	if x.Request.Lock.Lock == nil || x.Target().Source == "" || x.refused(target.CheckImages) ||
		len(x.obstacles(target.CheckLock)) > 0 {
		return Finding{}
	}
	return Finding{Status: OK, Saw: "the run is that of " + x.Request.Lock.File}
}

// flags warns of steps of --force that the run does not have.
func (x *Examination) flags() Finding {
	t := x.Target()
	if t.Source == "" {
		return Finding{}
	}
	unused := x.UnusedSteps(t)
	if len(unused) == 0 {
		return Finding{}
	}
	return Finding{Status: Warn, Saw: strings.Join(unused, "; "), Remedy: "drop what is not used"}
}
