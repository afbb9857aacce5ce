package release

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Version is a version of up to four numbers, as TensorRT, CUDA, DALI and NVIDIA's drivers have it: 10.9.0.34, 12.8.1,
// 580.159.04. A part that is not written is zero, so 10.9 equals 10.9.0.0. The zero Version means that it is not known.
type Version struct{ Major, Minor, Patch, Build int }

// ParseVersion reads one to four numbers with dots between them. Leading zeros are allowed ("580.159.04",
// "13.0.0.044"), and what follows a plus or a minus sign is left out: images say TRT_VERSION=8.6.1.6+cuda12.0.1.011.
func ParseVersion(s string) (Version, error) {
	fields := strings.Split(number(s), ".")
	if len(fields) > 4 {
		return Version{}, fmt.Errorf("version %q has more than four parts", s)
	}
	var parts [4]int
	for i, field := range fields {
		n, err := parsePart(field)
		if err != nil {
			return Version{}, fmt.Errorf("version %q: part %d is %q, not a number", s, i+1, field)
		}
		parts[i] = n
	}
	return Version{parts[0], parts[1], parts[2], parts[3]}, nil
}

// number is the version without spaces around it and without what follows a plus or a minus sign.
func number(s string) string {
	s = strings.TrimSpace(s)
	if i := strings.IndexAny(s, "+-"); i >= 0 {
		return s[:i]
	}
	return s
}

// parsePart takes digits alone: strconv.Atoi would also take a sign.
func parsePart(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, err
	}
	return int(n), nil
}

// Compare returns -1, 0 or 1 as v is older than, equal to or newer than o.
func (v Version) Compare(o Version) int {
	return cmp.Or(
		cmp.Compare(v.Major, o.Major),
		cmp.Compare(v.Minor, o.Minor),
		cmp.Compare(v.Patch, o.Patch),
		cmp.Compare(v.Build, o.Build),
	)
}

// IsZero says whether the version is not known.
func (v Version) IsZero() bool { return v == Version{} }

// String writes two parts at least and leaves out the zeros after the last other part: 11.0, 8.6.1, 10.9.0.34.
func (v Version) String() string {
	s := fmt.Sprintf("%d.%d", v.Major, v.Minor)
	if v.Patch != 0 || v.Build != 0 {
		s += "." + strconv.Itoa(v.Patch)
	}
	if v.Build != 0 {
		s += "." + strconv.Itoa(v.Build)
	}
	return s
}
