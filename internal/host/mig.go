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

// gpu returns the instance of whole as the GPU that a container gets. An engine built on it fits no other profile, so
// the profile is part of its name. An instance of a GPU whose name is not known, as on another host, has no name
// either.
func (i Instance) gpu(whole GPU) GPU {
	if whole.Name != "" {
		whole.Name += " MIG " + i.Profile
	}
	whole.Part = fmt.Sprintf("%d:%d", whole.Index, i.Index)
	whole.UUID, whole.MemoryMiB, whole.FreeMiB, whole.Instances = i.UUID, i.MemoryMiB, i.FreeMiB, nil
	return whole
}

// instances fills in the instances of the GPUs that are split. nvidia-smi -L names them, and an error of it is an
// error. Only -q reports their memory, which may stay unknown, and the CUDA version.
func (p *prober) instances(ctx context.Context, gpus *GPUs) error {
	list, err := p.smi(ctx, "-L")
	if err != nil {
		return noGPU(list, err, callLimit)
	}
	for _, listed := range ParseList(string(list)) {
		if i := gpus.index(listed.Index); i >= 0 && gpus.Devices[i].MIG {
			gpus.Devices[i].Instances = listed.Instances
		}
	}
	if query, err := p.smi(ctx, "-q", "-x"); err == nil {
		gpus.CUDA = parseInstanceMemory(strings.NewReader(string(query)), gpus.Devices)
	}
	return nil
}

// ParseList reads the output of nvidia-smi -L, of this host or of a container: a line for each GPU, "GPU 0: NAME (UUID:
// GPU-…)", and below it lines for the instances that it is split into, "MIG 1g.10gb Device 0: (UUID: MIG-…)". It skips
// other lines. The GPUs have no other properties.
func ParseList(list string) []GPU {
	ofGPU := regexp.MustCompile(`^\s*GPU (\d+):\s*(.*?)(?:\s*\(UUID: (\S+)\))?\s*$`)
	ofInstance := regexp.MustCompile(`^\s*MIG (\S+)\s+Device\s+(\d+):\s+\(UUID: (MIG-\S+)\)`)
	var gpus []GPU
	for line := range strings.Lines(list) {
		if m := ofGPU.FindStringSubmatch(line); m != nil {
			index, err := strconv.Atoi(m[1])
			if err != nil {
				index = -1 // the GPU exists, and cannot be named by its index
			}
			gpus = append(gpus, GPU{Index: index, Name: m[2], UUID: m[3]})
			continue
		}
		m := ofInstance.FindStringSubmatch(line)
		if m == nil || len(gpus) == 0 {
			continue
		}
		if index, err := strconv.Atoi(m[2]); err == nil {
			gpu := &gpus[len(gpus)-1]
			gpu.MIG = true
			gpu.Instances = append(gpu.Instances, Instance{Index: index, UUID: m[3], Profile: m[1]})
		}
	}
	return gpus
}

// parseInstanceMemory reads the memory of instances from nvidia-smi -q -x, as far as that is valid XML, and returns the
// CUDA version.
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
		return columnValue(log.CUDA)
	}
	for _, g := range log.GPUs {
		for i := range devices {
			if devices[i].UUID != g.UUID {
				continue
			}
			for _, measured := range g.Instances {
				for j := range devices[i].Instances {
					if in := &devices[i].Instances[j]; in.Index == measured.Index {
						in.MemoryMiB, in.FreeMiB = inMiB(measured.Memory.Total), inMiB(measured.Memory.Free)
					}
				}
			}
		}
	}
	return columnValue(log.CUDA)
}

func inMiB(text string) int { return mebibytes(strings.TrimSuffix(strings.TrimSpace(text), " MiB")) }
