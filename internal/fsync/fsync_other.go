//go:build !unix

package fsync

// Dir does nothing: a folder cannot be synced here.
func Dir(string) error { return nil }
