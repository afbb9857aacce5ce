package container

import "net/netip"

// DialAddr returns the address at which a published port is reached on the runtime's host. What is published on every
// address is reached on the loopback address of the same family.
func DialAddr(published netip.AddrPort) netip.AddrPort {
	addr := published.Addr()
	switch {
	case addr == netip.IPv6Unspecified():
		addr = netip.IPv6Loopback()
	case addr.IsUnspecified():
		addr = Port{}.HostAddress()
	}
	return netip.AddrPortFrom(addr, published.Port())
}

// Takes reports whether a listener on one address leaves none for another: they have the same port, and the address is
// the same or one of the two is every address. A listener on [::] takes IPv4 too, as Linux has it by default.
func Takes(listener, other netip.AddrPort) bool {
	a, b := listener.Addr().Unmap(), other.Addr().Unmap()
	switch {
	case listener.Port() != other.Port():
		return false
	case a == netip.IPv6Unspecified() || b == netip.IPv6Unspecified():
		return true
	case a.Is4() != b.Is4():
		return false
	default:
		return a == b || a.IsUnspecified() || b.IsUnspecified()
	}
}
