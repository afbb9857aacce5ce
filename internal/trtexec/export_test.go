package trtexec

import "github.com/dalirun/dalirun/internal/release"

// DialectFrom returns the first TensorRT whose trtexec is spoken to as that of tensorRT is.
func DialectFrom(tensorRT release.Version) (release.Version, error) {
	d, err := dialectOf(tensorRT)
	return d.From, err
}
