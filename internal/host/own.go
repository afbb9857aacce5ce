package host

import "io/fs"

// An UnsafeError is why [CheckOwn] refuses a path.
type UnsafeError struct {
	Path    string      // the part of the path that others may alter
	Close   fs.FileMode // the rights of others to it that are too many; 0 where rights are not the reason
	Foreign bool        // it belongs to another user, in a folder of this user or of root
	why     string
}

// Error says what others may do.
func (e *UnsafeError) Error() string { return e.why }
