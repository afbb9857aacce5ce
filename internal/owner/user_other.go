//go:build !unix

package owner

// OtherUser is always empty: files have no owners that could be compared here.
func OtherUser(string, ...string) (string, error) { return "", nil }
