//go:build !linux

package cli

// programs are those that a test can run as processes of their own.
func programs() map[string]func() { return map[string]func(){"dalirun": runDalirun} }
