package host

// Memory returns the free and the total memory, in bytes, of the GPU that has the least free among the chosen ones: an
// engine that is built on one of them runs on all. Both are zero if one of them does not tell, as GPUs that share the
// host's memory do not.
func Memory(chosen []GPU) (free, total int64) {
	const mib = 1 << 20
	for i, g := range chosen {
		if g.MemoryMiB == 0 {
			return 0, 0
		}
		if f := int64(g.FreeMiB) * mib; i == 0 || f < free {
			free, total = f, int64(g.MemoryMiB)*mib
		}
	}
	return free, total
}
