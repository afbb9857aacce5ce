package container

import (
	"net/netip"
	"testing"
)

func TestDialAddr(t *testing.T) {
	t.Parallel()
	for published, want := range map[string]string{
		"0.0.0.0:1": "127.0.0.1:1", "[::]:1": "[::1]:1",
		"127.0.0.2:1": "127.0.0.2:1", "192.0.2.1:1": "192.0.2.1:1", "[2001:db8::1]:1": "[2001:db8::1]:1",
	} {
		if got := DialAddr(netip.MustParseAddrPort(published)); got.String() != want {
			t.Errorf("%s is reached at %s, want %s", published, got, want)
		}
	}
}
