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
