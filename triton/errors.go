package triton

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
)

// The classes of failure that callers tell apart; match them with [errors.Is].
// A call whose own context ended matches [context.DeadlineExceeded] or
// [context.Canceled] instead, and no other call does.
//
// What is left has no class: a model that raised an error, a Python model
// whose process died, an answer that breaks the protocol, a closed client. An
// error that a model gives a code itself has the class of that code.
var (
	// ErrUnavailable means that the server cannot be reached (nobody listens,
	// the connection was refused, reset or lost, or what is there does not
	// speak gRPC), or that it is there and refuses work for now, as with a full
	// queue. Trying again may help.
	ErrUnavailable = errors.New("server is unavailable")
	// ErrNotFound means that the server has no such model or version, or none
	// that is loaded: not yet, no longer, or because its load failed.
	ErrNotFound = errors.New("model is not found")
	// ErrInvalid means that the request cannot succeed as it is: a tensor does
	// not fit the model, a message is larger than 2³¹−1 bytes, the model that
	// was to be loaded is faulty, or the server was not started to load and
	// unload models on request.
	ErrInvalid = errors.New("request is invalid")
	// ErrNoClassifier means that the model, by its metadata, takes no encoded
	// picture or answers with no vector of classes, so that [Client.Classify]
	// sent nothing. It is an ErrInvalid too.
	ErrNoClassifier = errors.New("model classifies no pictures")
)

// An Error is a call that failed. Every error of a [Client]'s methods is one.
type Error struct {
	// Op is what was tried, such as "load model".
	Op string
	// Model is the model's name, empty where the call was about the server.
	Model string
	// Code is the server's status code, or the one that fits: for a request
	// which was refused before it was sent, and where Triton's own says
	// something else than its class.
	Code codes.Code
	// Message is the reason in the server's own words, without the parts that
	// repeat Op and Model. It may have several lines, such as a Python
	// traceback.
	Message string

	// NoClassifier is true for a request that [Client.Classify] did not send,
	// as the model is none for it: an [ErrNoClassifier].
	NoClassifier bool
}

func (e *Error) Error() string {
	what := e.Op
	if e.Model != "" {
		what += " " + e.Model
	}
	return what + ": " + e.Message
}

// Is tells whether target is the class that e's code belongs to.
func (e *Error) Is(target error) bool {
	if e.NoClassifier && target == ErrNoClassifier {
		return true
	}
	switch e.Code {
	case codes.Unavailable, codes.ResourceExhausted:
		return target == ErrUnavailable
	case codes.NotFound:
		return target == ErrNotFound
	case codes.InvalidArgument:
		return target == ErrInvalid
	case codes.DeadlineExceeded:
		return target == context.DeadlineExceeded
	case codes.Canceled:
		return target == context.Canceled
	default:
		return false
	}
}

// refuse is the error of a request that is not worth sending.
func refuse(op, model string, err error) error {
	return &Error{Op: op, Model: model, Code: codes.InvalidArgument, Message: err.Error()}
}

// misread is the error of an answer that breaks the protocol.
func misread(op, model, format string, args ...any) error {
	return &Error{Op: op, Model: model, Code: codes.Internal, Message: fmt.Sprintf(format, args...)}
}

// failure turns what gRPC returned for a call with ctx into an Error.
func (c *Client) failure(ctx context.Context, op, model string, err error) *Error {
	s := status.Convert(err)
	message, code := reason(s.Message(), model), c.codeOf(ctx, s)
	switch code {
	case codes.Unavailable:
		if transport, ok := transportReason(message); ok {
			message = transport
			if !strings.Contains(message, c.addr) {
				message = c.addr + ": " + message
			}
		}
	case codes.DeadlineExceeded:
		// gRPC's own words describe its internals, not what happened.
		message = c.addr + " did not answer before the deadline"
	case codes.Canceled:
		message = "canceled"
	case codes.FailedPrecondition:
		if s.Code() == codes.Canceled {
			message = "the client is closed"
		}
	}
	return &Error{Op: op, Model: model, Code: code, Message: message}
}

// codeOf returns the code of the class that a status is of.
func (c *Client) codeOf(ctx context.Context, s *status.Status) codes.Code {
	_, limited := ctx.Deadline()
	switch s.Code() {
	case codes.Canceled, codes.DeadlineExceeded:
		switch {
		case ctx.Err() != nil:
			return status.FromContextError(ctx.Err()).Code()
		case s.Code() == codes.DeadlineExceeded && limited:
			return codes.DeadlineExceeded // the server's clock can be a moment ahead
		case s.Code() == codes.DeadlineExceeded:
			return codes.Unavailable // somebody on the way gave up
		case c.conn.GetState() == connectivity.Shutdown:
			return codes.FailedPrecondition
		default:
			return codes.Aborted // the model, or who else stopped it
		}
	case codes.ResourceExhausted:
		if strings.Contains(s.Message(), "larger than max") { // of gRPC's implementations in Go and C++
			return codes.InvalidArgument
		}
	}
	return s.Code()
}

// reason strips from a server's message what an Error says anyway.
func reason(message, model string) string {
	message = strings.TrimRight(message, " \n;")
	if rest, ok := strings.CutPrefix(message, "[request id: "); ok {
		if _, after, found := strings.Cut(rest, "] "); found {
			message = after
		}
	}
	message = strings.TrimPrefix(message, "load failed for model '"+model+"': ")
	return lowerFirst(message)
}

// transportReason returns the innermost cause in gRPC's description of a
// connection that failed, which wraps it once for every layer.
func transportReason(message string) (string, bool) {
	const desc = `connection error: desc = "`
	if i := strings.LastIndex(message, desc); i >= 0 {
		message = strings.TrimSuffix(message[i+len(desc):], `"`)
		message = strings.TrimPrefix(message, "transport: ")
		message = strings.TrimPrefix(message, "Error while dialing: ")
		return lowerFirst(message), true
	}
	for _, prefix := range []string{"error reading from server: ", "closing transport due to: "} {
		if cause, ok := strings.CutPrefix(message, prefix); ok {
			return "connection lost: " + cause, true
		}
	}
	return message, false
}

// lowerFirst makes s fit to follow a colon. A first word in capitals, such as
// a name or FP32, stays.
func lowerFirst(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	second, _ := utf8.DecodeRuneInString(s[size:])
	if !unicode.IsUpper(first) || !unicode.IsLower(second) {
		return s
	}
	return string(unicode.ToLower(first)) + s[size:]
}
