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

func TestTakes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		listener, other string
		want            bool
	}{
		{"127.0.0.1:8000", "127.0.0.1:8000", true},
		{"127.0.0.1:8000", "127.0.0.1:8001", false},
		{"127.0.0.1:8000", "192.0.2.7:8000", false},
		{"127.0.0.1:8000", "[::1]:8000", false},
		{"[::ffff:127.0.0.1]:8000", "127.0.0.1:8000", true},
		{"0.0.0.0:8000", "192.0.2.7:8000", true},
		{"0.0.0.0:8000", "[::1]:8000", false},
		{"0.0.0.0:8000", "[::]:8000", true},
		{"[::]:8000", "[2001:db8::1]:8000", true},
		{"[::]:8000", "192.0.2.7:8000", true},
		{"[::]:8000", "192.0.2.7:8001", false},
	} {
		listener, other := netip.MustParseAddrPort(c.listener), netip.MustParseAddrPort(c.other)
		if got := Takes(listener, other); got != c.want {
			t.Errorf("a listener on %s takes %s: %t", listener, other, got)
		}
		if got := Takes(other, listener); got != c.want {
			t.Errorf("a listener on %s takes %s: %t", other, listener, got)
		}
	}
}
