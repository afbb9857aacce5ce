package host

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// readDevice reads the kernel's log, one record at a time, until there is none. The runtime's own files would wait for
// the next record.
func readDevice(name string) (string, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd) //nolint:errcheck // only read
	var all strings.Builder
	const mostRecord = 8 << 10 // of /dev/kmsg, by Documentation/ABI/testing/dev-kmsg of Linux
	record := make([]byte, mostRecord)
	for all.Len() < mostKernelLog {
		n, err := unix.Read(fd, record)
		switch {
		case errors.Is(err, unix.EPIPE), errors.Is(err, unix.EINTR): // a record was overwritten meanwhile
			continue
		case errors.Is(err, unix.EAGAIN), err == nil && n == 0:
			return all.String(), nil
		case err != nil:
			return "", err
		}
		all.Write(record[:n])
	}
	return all.String(), nil
}
