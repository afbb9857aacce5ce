package steps

import (
	"slices"
	"strconv"
	"strings"

	"github.com/dalirun/dalirun/internal/recipe"
)

// The arguments by which programs in containers learn what they need to know of a recipe. Arguments are facts, so that
// a result depends on what its program reads, and on nothing else of the recipe.

// networkArguments are what a network depends on.
func networkArguments(r recipe.Recipe) []string {
	return []string{
		"--network", r.Network.Torchvision, "--classes", strconv.Itoa(r.Classes), "--size", strconv.Itoa(r.Input.Size),
	}
}

// normalizationArguments are what pixels in 0..1 are normalized with.
func normalizationArguments(in recipe.Input) []string {
	return []string{"--mean", channels(in.Mean), "--std", channels(in.Std)}
}

// resizeArguments say how a picture gets the network's size.
func resizeArguments(in recipe.Input) []string {
	if in.Resize == recipe.Stretch {
		return nil
	}
	return []string{"--short-side", strconv.Itoa(in.ResizeTo)}
}

// pictureArguments are what DALI does to a decoded picture.
func pictureArguments(in recipe.Input) []string {
	return slices.Concat([]string{"--size", strconv.Itoa(in.Size)}, resizeArguments(in), normalizationArguments(in))
}

// channels writes the figures of red, green and blue.
func channels(values [3]float64) string {
	var text []string
	for _, v := range values {
		text = append(text, strconv.FormatFloat(v, 'g', -1, 64))
	}
	return strings.Join(text, ",")
}
