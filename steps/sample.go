package steps

import (
	"github.com/dalirun/dalirun"
	"github.com/dalirun/dalirun/internal/target"
)

// Sample is the picture that dalirun carries: a cup of coffee.
func Sample() (target.Picture, error) {
	data, err := dalirun.Assets.ReadFile("assets/pictures/coffee.jpg")
	return target.Picture{Data: data}, err
}
