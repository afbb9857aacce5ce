package host

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/dalirun/dalirun/internal/bytesize"
)

// Process is a program that computes on a GPU.
type Process struct {
	GPU       string // its UUID
	PID       int    // in the PID namespace of the host
	Name      string // as nvidia-smi has it: its file, with or without the path; empty where it is not known
	MemoryMiB int    // zero if the driver does not tell it
	// Hidden says that the process cannot be looked at, so that it may be in a container of the caller's own; see
	// [System.Neighbours].
	Hidden bool
}

// String is the name with what is known of the rest, as in "python3 (PID 500, 1.506 GiB)".
func (p Process) String() string {
	name := p.Name
	if name == "" {
		name = "a program without a name"
	}
	about := fmt.Sprintf("PID %d", p.PID)
	if p.MemoryMiB > 0 {
		about += ", " + bytesize.Format(int64(p.MemoryMiB)<<20)
	}
	return name + " (" + about + ")"
}

// Processes asks nvidia-smi which programs compute on the GPUs, 5 s at most. Programs that only draw, as those of a
// desktop, are not among them, and neither are those of a PID namespace that this process does not see: in a container
// there may be none at all. The errors are those of [Probe].
func Processes(ctx context.Context, run Runner) ([]Process, error) {
	const query = "--query-compute-apps=gpu_uuid,pid,process_name,used_memory"
	limited, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	out, err := call(limited, run, "nvidia-smi", query, "--format=csv,noheader,nounits")
	if notFound(err) {
		out, err = call(limited, run, wslSMI, query, "--format=csv,noheader,nounits")
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, noGPU(out, err, callLimit)
	}
	var all []Process
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		p, err := parseProcess(line)
		if err != nil {
			return nil, fmt.Errorf("nvidia-smi's line %q: %w", line, err)
		}
		all = append(all, p)
	}
	return all, nil
}

// parseProcess reads a line as "GPU-5d40f87a-…, 500, python3, 1542". Only the name could have a comma.
func parseProcess(line string) (Process, error) {
	const columns = 4
	values := strings.Split(line, ",")
	if len(values) < columns {
		return Process{}, fmt.Errorf("%d columns, want %d", len(values), columns)
	}
	last := len(values) - 1
	p := Process{
		GPU: columnValue(values[0]), Name: columnValue(strings.Join(values[2:last], ",")),
		MemoryMiB: mebibytes(columnValue(values[last])),
	}
	var err error
	if p.PID, err = strconv.Atoi(strings.TrimSpace(values[1])); err != nil || p.PID <= 0 {
		return Process{}, fmt.Errorf("PID %q is no number", strings.TrimSpace(values[1]))
	}
	return p, nil
}

// Neighbours returns the programs that compute on some GPUs and are in none of the containers own, which are IDs. It
// tells containers apart by the control groups of their processes, whose names have the container's ID. A process that
// cannot be looked at, as from another PID namespace, is Hidden if there are such containers.
//
// Of a GPU that MIG splits nvidia-smi does not say which instance a program is in: there are none of an instance.
func (s System) Neighbours(ctx context.Context, gpus []GPU, own []string) ([]Process, error) {
	all, err := Processes(ctx, s.Command)
	if err != nil {
		return nil, err
	}
	var others []Process
	for _, p := range all {
		if !slices.ContainsFunc(gpus, func(g GPU) bool { return g.UUID == p.GPU && g.UUID != "" }) {
			continue
		}
		groups, err := fs.ReadFile(s.Root, "proc/"+strconv.Itoa(p.PID)+"/cgroup")
		p.Hidden = err != nil && len(own) > 0
		if !slices.ContainsFunc(own, func(id string) bool { return id != "" && strings.Contains(string(groups), id) }) {
			others = append(others, p)
		}
	}
	return others, nil
}
