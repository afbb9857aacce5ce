// Package dalirun holds the files that the binary carries: what runs inside containers, the Dockerfiles of the local
// images, the model repository as committed, and a sample picture.
package dalirun

import "embed"

// Assets holds assets/ and model_repository/ under those names.
//
//go:embed assets/python/*.py assets/images assets/pictures model_repository
var Assets embed.FS
