// Package trtexec holds all that dalirun knows of trtexec, the TensorRT program that builds engines: the options of
// each TensorRT's trtexec, its command line, its output and exports, what these prove of an engine, how much GPU memory
// a build takes, and what a timing cache is valid for.
//
// The package runs nothing: it makes argv and reads text. The step build-engine runs the container.
package trtexec
