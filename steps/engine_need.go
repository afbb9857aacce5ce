package steps

import "github.com/dalirun/dalirun/internal/release"

// EngineMemory returns how much of a GPU's memory the build of an engine for a batch takes, in bytes: least is what it cannot do
// without and is refused below, all is with every kernel tried. A run whose engine is stored takes none.
func EngineMemory(p release.Precision, batch int) (least, all int64) {
	return leastMemory(p, batch), builderMemory + int64(batch)*timingMemory*width(p)
}
