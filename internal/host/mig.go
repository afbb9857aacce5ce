package host

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// Instance is a part of a GPU that is split by MIG. Containers see it as a GPU of its own.
type Instance struct {
	Index     int    // among those of its GPU: --gpus device=0:1 is the second of GPU 0
	UUID      string // MIG-…; drivers before R470 name it MIG-GPU-UUID/7/0
	Profile   string // 1g.10gb, 1c.3g.40gb
	MemoryMiB int    // zero if the driver does not tell it
	FreeMiB   int
}

// gpu is the instance as what a container gets. An engine built on it fits no other profile, so the profile is part of the name. Of a GPU
// that is not known, as on another host, the instance is not known either and has no name.
func (i Instance) gpu(of GPU) GPU {
	if of.Name != "" {
		of.Name += " MIG " + i.Profile
	}
	of.Part = fmt.Sprintf("%d:%d", of.Index, i.Index)
	of.UUID, of.MemoryMiB, of.FreeMiB, of.Instances = i.UUID, i.MemoryMiB, i.FreeMiB, nil
	return of
}

// instances fills in the instances of the GPUs that are split. nvidia-smi -L names them; without it nothing is known of what a container would
// get. Only -q knows their memory, without which the rest still holds, and it has the CUDA version as well.
func (p *prober) instances(ctx context.Context, gpus *GPUs) error {
	list, err := p.ask(ctx, "-L")
	if err != nil {
		return noGPU(list, err, callLimit)
	}
	parseInstances(string(list), gpus.Devices)
	if query, err := p.ask(ctx, "-q", "-x"); err == nil {
		gpus.CUDA = parseInstanceMemory(strings.NewReader(string(query)), gpus.Devices)
	}
	return nil
}

// parseInstances reads nvidia-smi -L, which prints the instances of a GPU under its line.
func parseInstances(list string, devices []GPU) {
	ofGPU := regexp.MustCompile(`^GPU (\d+): `)
	instance := regexp.MustCompile(`^\s+MIG (\S+)\s+Device\s+(\d+):\s+\(UUID: (MIG-\S+)\)`)
	var current *GPU
	for line := range strings.Lines(list) {
		if m := ofGPU.FindStringSubmatch(line); m != nil {
			current = nil
			for i := range devices {
				if strconv.Itoa(devices[i].Index) == m[1] {
					current = &devices[i]
				}
			}
			continue
		}
		m := instance.FindStringSubmatch(line)
		if m == nil || current == nil || !current.MIG {
			continue
		}
		if index, err := strconv.Atoi(m[2]); err == nil {
			current.Instances = append(current.Instances, Instance{Index: index, UUID: m[3], Profile: m[1]})
		}
	}
}

// parseInstanceMemory reads nvidia-smi -q -x up to where it is none any more, and returns the CUDA version.
func parseInstanceMemory(query io.Reader, devices []GPU) (cuda string) {
	var log struct {
		CUDA string `xml:"cuda_version"`
		GPUs []struct {
			UUID      string `xml:"uuid"`
			Instances []struct {
				Index  int `xml:"index"`
				Memory struct {
					Total string `xml:"total"`
					Free  string `xml:"free"`
				} `xml:"fb_memory_usage"`
			} `xml:"mig_devices>mig_device"`
		} `xml:"gpu"`
	}
	if err := xml.NewDecoder(query).Decode(&log); err != nil && !errors.Is(err, io.EOF) {
		return told(log.CUDA)
	}
	for _, g := range log.GPUs {
		for i := range devices {
			if devices[i].UUID != g.UUID {
				continue
			}
			for _, told := range g.Instances {
				for j := range devices[i].Instances {
					if in := &devices[i].Instances[j]; in.Index == told.Index {
						in.MemoryMiB, in.FreeMiB = inMiB(told.Memory.Total), inMiB(told.Memory.Free)
					}
				}
			}
		}
	}
	return told(log.CUDA)
}

func inMiB(text string) int { return mebibytes(strings.TrimSuffix(strings.TrimSpace(text), " MiB")) }
