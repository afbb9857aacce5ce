package dockertest

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/dalirun/dalirun/internal/container"
)

// createBody is what of a create request a fake can mean something by.
type createBody struct {
	Image      string
	Cmd        []string
	Env        []string
	Labels     map[string]string
	HostConfig struct {
		Init           bool
		ReadonlyRootfs bool
		NetworkMode    string
		Memory         int64
		Mounts         []struct {
			Type, Source, Target string
			ReadOnly             bool
		}
		PortBindings map[string][]struct{ HostIP, HostPort string }
	}
}

// spec says the request as a Spec, which is what a program of a fake sees.
func (b createBody) spec() (container.Spec, error) {
	s := container.Spec{
		Step: b.Labels[container.LabelStep], Role: container.Role(b.Labels[container.LabelRole]),
		Model: b.Labels[container.LabelModel],
		Image: b.Image, Command: b.Cmd, Env: map[string]string{},
		Network: container.NetworkPublish, Init: b.HostConfig.Init,
		ReadOnly: b.HostConfig.ReadonlyRootfs, Memory: b.HostConfig.Memory,
	}
	if b.HostConfig.NetworkMode == "none" {
		s.Network = container.NetworkNone
	}
	for _, e := range b.Env {
		name, value, _ := strings.Cut(e, "=")
		s.Env[name] = value
	}
	for _, m := range b.HostConfig.Mounts {
		if m.Type != "bind" {
			return s, fmt.Errorf("mount of type %q: this engine binds only", m.Type)
		}
		mount := container.Mount{Source: m.Source, Target: m.Target}
		if m.ReadOnly {
			s.Inputs = append(s.Inputs, mount)
		} else {
			s.Outputs = append(s.Outputs, mount)
		}
	}
	for name, bindings := range b.HostConfig.PortBindings {
		inside, err := port(strings.TrimSuffix(name, "/tcp"))
		if err != nil {
			return s, err
		}
		for _, binding := range bindings {
			outside, err := port(cmp.Or(binding.HostPort, "0"))
			if err != nil {
				return s, err
			}
			on, err := netip.ParseAddr(binding.HostIP)
			if err != nil {
				return s, err
			}
			// An engine gives the port that was asked for or none; to try another one is the client's part.
			s.Publish = append(s.Publish, container.Port{Container: inside, Address: on, Host: outside, Required: true})
		}
	}
	slices.SortFunc(s.Publish, func(a, b container.Port) int { return cmp.Compare(a.Container, b.Container) })
	return s, nil
}

func port(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("port %q is none", text)
	}
	return uint16(n), nil
}
