package release

// DialectFrom returns the first TensorRT whose trtexec is spoken to as that of tensorRT is.
func DialectFrom(tensorRT Version) (Version, error) {
	d, err := dialectOf(tensorRT)
	return d.From, err
}
