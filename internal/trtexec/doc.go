// Package trtexec holds all that dalirun knows of trtexec, the TensorRT program that builds engines: the dialect of
// each TensorRT, the command line, what it prints and exports, what that proves of an engine, how much GPU memory a
// build takes, and what a timing cache is good for.
//
// It runs nothing: it makes argv and reads text, and steps' build-engine runs the container.
package trtexec
