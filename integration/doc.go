// Package integration holds the tests that run the built dalirun against real container engines. They have the build
// tag integration; `go tool task test:integration` runs them.
//
// The programs under stub/ stand for what is in NVIDIA's images where a test needs no GPU to see what dalirun does:
// they are compiled into images FROM scratch by the tests and are nowhere else.
package integration
