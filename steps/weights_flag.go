package steps

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/spelling"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/pipeline"
)

// ParseWeights reads the value of --weights: pretrained, auto, random:SEED or the name of a checkpoint, which is looked
// at. Its errors name the flag by where the settings say that it was written.
func ParseWeights(value string, settings target.Settings) (target.WeightsSource, error) {
	origin := settings.Origin("weights")
	kind, seed, seeded := strings.Cut(value, ":")
	switch {
	case value == string(target.Pretrained):
		return target.WeightsSource{Kind: target.Pretrained}, nil
	case value == target.Auto:
		return target.WeightsSource{Kind: target.AutoWeights}, nil
	case kind == string(target.Random) && seeded:
		n, err := strconv.ParseUint(seed, 10, 32) // what NumPy's and PyTorch's generators take
		if err != nil {
			return target.WeightsSource{}, pipeline.Usagef("as in random:0",
				"%s: %q is not a seed, a whole number from 0 to 4294967295", origin, seed)
		}
		return target.WeightsSource{Kind: target.Random, Seed: int64(n)}, nil
	}
	path, err := filepath.Abs(value)
	if err != nil {
		return target.WeightsSource{}, pipeline.Usagef("", "%s: %w", origin, err)
	}
	const name = "name a PyTorch state dict of the model, or use --weights pretrained"
	err = checkFile(path)
	if errors.Is(err, fs.ErrNotExist) && !strings.ContainsAny(value, "./") {
		known := []string{string(target.Pretrained), target.Auto, "random:0"}
		return target.WeightsSource{}, pipeline.Usagef(cmp.Or(spelling.Nearest(value, known), name),
			"%s: %q is none of pretrained, auto, random:SEED or a file", origin, value)
	}
	if err != nil {
		written := settings.Written("weights", printable.Name(value))
		return target.WeightsSource{}, fmt.Errorf("%s: %w", written, userfile.ReadFault(err, name))
	}
	return target.WeightsSource{Kind: target.File, Path: path}, nil
}

func checkFile(path string) error {
	about, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !about.Mode().IsRegular() {
		return errors.New("it is not a file")
	}
	return CheckCheckpoint(path)
}
