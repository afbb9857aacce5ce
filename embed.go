// Package dalirun holds the files that the binary carries: what runs inside containers, the Dockerfiles of the local
// images, the model repository as committed, the recipes of models, and a sample picture.
package dalirun

import "embed"

// Assets holds assets/, model_repository/ and recipes/ under those names.
//
//go:embed assets/python/*.py assets/images assets/pictures model_repository recipes
var Assets embed.FS
