// Package record says how a program in a container was run.
package record

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
)

// prefix begins the line of a record in a program's output.
const prefix = "STUB "

// Record is what a program saw of itself and its container.
type Record struct {
	Args       []string          `json:"args"` // the program's path first
	Env        map[string]string `json:"env"`
	UID        int               `json:"uid"`
	GID        int               `json:"gid"`
	Mounts     map[string]Mount  `json:"mounts"`     // by target
	Interfaces []string          `json:"interfaces"` // network interfaces that are up, other than loopback
	Caps       string            `json:"caps"`       // effective capabilities, a hexadecimal mask
	NoNewPrivs bool              `json:"no_new_privs"`
	Init       bool              `json:"init"`     // another process is PID 1
	Terminal   bool              `json:"terminal"` // its input or output is one
}

// Mount is a mounted file system.
type Mount struct {
	Type     string `json:"type"`
	ReadOnly bool   `json:"read_only"`
}

// Write takes the record of this process and writes it as one line.
func Write(w io.Writer, args, environ []string) error {
	r := Record{Args: args, Env: map[string]string{}, UID: os.Getuid(), GID: os.Getgid(), Init: os.Getpid() != 1}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		r.Env[name] = value
	}
	for _, fd := range []string{"/proc/self/fd/0", "/proc/self/fd/1"} {
		target, err := os.Readlink(fd)
		if err == nil && (strings.HasPrefix(target, "/dev/pts/") || target == "/dev/console") {
			r.Terminal = true
		}
	}
	if err := r.readProc(); err != nil {
		return err
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback == 0 && i.Flags&net.FlagUp != 0 {
			r.Interfaces = append(r.Interfaces, i.Name)
		}
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s%s\n", prefix, line)
	return err
}

func (r *Record) readProc() error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); name {
		case "CapEff":
			r.Caps = value
		case "NoNewPrivs":
			r.NoNewPrivs = value == "1"
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	r.Mounts = parseMounts(string(mounts))
	return err
}

// parseMounts reads /proc/PID/mountinfo, proc(5): the fifth field is the target, the sixth its options, and the file
// system's type follows the separator "-".
func parseMounts(info string) map[string]Mount {
	const target, options = 4, 5
	mounts := map[string]Mount{}
	for line := range strings.Lines(info) {
		fields := strings.Fields(line)
		separator := slices.Index(fields, "-")
		if separator <= options || len(fields) <= separator+1 {
			continue
		}
		mounts[fields[target]] = Mount{
			Type: fields[separator+1], ReadOnly: slices.Contains(strings.Split(fields[options], ","), "ro"),
		}
	}
	return mounts
}

// Parse returns the records in a log, whose lines may begin with a time.
func Parse(log string) ([]Record, error) {
	var records []Record
	for line := range strings.Lines(log) {
		_, text, ok := strings.Cut(line, prefix+"{")
		if !ok {
			continue
		}
		var r Record
		if err := json.Unmarshal([]byte("{"+text), &r); err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		records = append(records, r)
	}
	return records, nil
}
