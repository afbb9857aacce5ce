// Package triton is a gRPC client for any Triton Inference Server: health,
// inference, classification, statistics and control of the model repository.
//
// It speaks the KServe v2 protocol with Triton's extensions. A [Client] is
// made without touching the network, is safe for concurrent use and must be
// closed: Triton waits for open connections when it stops.
//
// No call has a timeout of its own. Give each a context with a deadline; a
// model that hangs while it loads or executes is otherwise waited for.
//
// # Live and ready
//
// A server that controls its models explicitly is live at once and ready with
// no model at all. Ready then says that no load is under way and none has
// failed, and a Python model whose process died is still ready. Only an
// inference proves that a model answers.
//
// # What is promised
//
// This package is meant to be imported; what it exports changes as the
// changelog says. Package pb, below it, is generated, and shows here only as
// what [Client.ModelConfig] returns. Its messages and field numbers are
// Triton's published protocol and stay; its Go identifiers may change with the
// generator and are no part of the promise.
package triton

// The generator and its plugins are pinned in a module of their own and need
// nothing but Go; the same input gives the same bytes everywhere.
//go:generate go -C ../tools/protogen run . ../../triton/proto ../../triton/pb
