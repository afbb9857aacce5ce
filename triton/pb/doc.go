// Package pb is Triton's gRPC protocol, generated from triton/proto by go
// generate.
//
// On the wire it is stable: names of services and messages, and the numbers of
// fields, are those that Triton publishes. In Go it is no promise: identifiers
// may change with the generator, and what package triton does not speak is
// left out. Prefer package triton, of whose API it is part only as the model
// configuration that [github.com/dalirun/dalirun/triton.Client.ModelConfig]
// returns.
package pb
