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
	for _, listed := range ParseList(string(list)) {
		if i := gpus.index(listed.Index); i >= 0 && gpus.Devices[i].MIG {
			gpus.Devices[i].Instances = listed.Instances
		}
	}
	if query, err := p.ask(ctx, "-q", "-x"); err == nil {
		gpus.CUDA = parseInstanceMemory(strings.NewReader(string(query)), gpus.Devices)
	}
	return nil
}

// ParseList reads what nvidia-smi -L prints, of this host or inside a container: each GPU in a line, "GPU 0: NAME (UUID: GPU-…)", and below it
// the instances that it is split into, "MIG 1g.10gb Device 0: (UUID: MIG-…)". Nothing else is told of them. A line that is neither is passed
// over.
func ParseList(list string) []GPU {
	ofGPU := regexp.MustCompile(`^\s*GPU (\d+):\s*(.*?)(?:\s*\(UUID: (\S+)\))?\s*$`)
	ofInstance := regexp.MustCompile(`^\s*MIG (\S+)\s+Device\s+(\d+):\s+\(UUID: (MIG-\S+)\)`)
	var gpus []GPU
	for line := range strings.Lines(list) {
		if m := ofGPU.FindStringSubmatch(line); m != nil {
			index, err := strconv.Atoi(m[1])
			if err != nil {
				index = -1 // it is there, and nobody can name it by its index
			}
			gpus = append(gpus, GPU{Index: index, Name: m[2], UUID: m[3]})
			continue
		}
		m := ofInstance.FindStringSubmatch(line)
		if m == nil || len(gpus) == 0 {
			continue
		}
		if index, err := strconv.Atoi(m[2]); err == nil {
			of := &gpus[len(gpus)-1]
			of.MIG = true
			of.Instances = append(of.Instances, Instance{Index: index, UUID: m[3], Profile: m[1]})
		}
	}
	return gpus
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
