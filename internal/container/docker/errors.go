package docker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/client"

	"github.com/dalirun/dalirun/internal/cdi"
	"github.com/dalirun/dalirun/internal/container"
)

// runtimeError is an error of the container engine or a registry: its text, the sentinel that it is, the cause, and
// what to do.
type runtimeError struct {
	kind   error // nil where none fits
	text   string
	cause  error
	advice string // may be empty
}

// Error returns what was tried and the engine's message.
func (e *runtimeError) Error() string { return e.text }

// Advice returns what to do, see [container.Advice].
func (e *runtimeError) Advice() string { return e.advice }

// Unwrap returns the sentinel and the cause.
func (e *runtimeError) Unwrap() []error {
	if e.kind == nil {
		return []error{e.cause}
	}
	return []error{e.kind, e.cause}
}

// explain adds the action that was tried to err, and maps err to the sentinels. If ctx has ended, the error is its
// cause: the engine's message about an interrupted request says nothing.
func (r *Runtime) explain(ctx context.Context, action string, err error) error {
	if err == nil {
		return nil
	}
	kind := kindOf(err)
	if ctx.Err() != nil || errors.Is(kind, container.ErrUnreachable) || errors.Is(kind, container.ErrPermission) {
		return fmt.Errorf("%s: %w", action, r.unavailable(ctx, err))
	}
	advice := ""
	if kind == nil && cerrdefs.IsPermissionDenied(err) {
		kind = container.ErrPermission
		advice = "the container engine, or a proxy before it, forbids this request: allow it there"
	}
	return &runtimeError{kind: kind, text: action + ": " + message(err), cause: err, advice: advice}
}

// explainRegistry is explain for an action that may fail because of a registry.
func (r *Runtime) explainRegistry(ctx context.Context, action string, err error) error {
	if kind := kindOf(err); err == nil || ctx.Err() != nil || errors.Is(kind, container.ErrUnreachable) ||
		errors.Is(kind, container.ErrPermission) || errors.Is(kind, container.ErrNoSpace) {
		return r.explain(ctx, action, err)
	}
	kind := kindOfRegistry(err.Error())
	if kind == nil && cerrdefs.IsNotFound(err) {
		kind = container.ErrNotFound
	}
	return &runtimeError{kind: kind, text: action + ": " + message(err), cause: err}
}

// otherEngine says how another container engine is chosen.
const otherEngine = "name another one by DOCKER_HOST or docker context use"

// unavailable returns the error for an engine that does not say what it is. It names the endpoint, and has advice.
func (r *Runtime) unavailable(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if cause != nil && !errors.Is(cause, errNoReply) {
		return cause
	}
	if errors.Is(err, fs.ErrPermission) {
		return &runtimeError{
			kind: container.ErrPermission, cause: err,
			text: fmt.Sprintf("%s to talk to the container engine at %s", container.ErrPermission, r.endpoint),
			advice: "add yourself to the group of its socket (sudo usermod -aG docker $USER, then log in again) or use a " +
				"rootless container engine",
		}
	}
	if wrong, advice := r.settings(err); wrong != "" {
		text := fmt.Sprintf("the container engine at %s %s", r.endpoint, wrong)
		return &runtimeError{kind: container.ErrSettings, cause: err, text: text, advice: advice}
	}
	kind, reason, advice := container.ErrUnreachable, "", r.howToStart()
	socket, isSocket := strings.CutPrefix(r.endpoint, "unix://")
	switch {
	case cause != nil:
		reason, advice = ": "+cause.Error(), "it hangs or starts: look at its log"
	case isSocket && !exists(socket):
		reason = ": there is no such socket"
	case !isUnreachable(err): // it is the engine's answer
		kind, reason, advice = container.ErrFailing, ": "+message(err), "look at its log"
	case !isSocket:
		reason = ": " + message(err)
	}
	advice += ", or " + otherEngine
	if r.namedBy != "" {
		advice += " (this one is named by " + r.namedBy + ")"
	}
	text := fmt.Sprintf("%s at %s%s", kind, r.endpoint, reason)
	return &runtimeError{kind: kind, cause: err, text: text, advice: advice}
}

// howToStart says how the engine is started: the usual one of this host, or whichever was named.
func (r *Runtime) howToStart() string {
	if r.remote || r.namedBy != "" {
		return "start the one there"
	}
	return "start it: `sudo systemctl start docker`, or `sudo dockerd` where there is no systemd; on Debian and Ubuntu " +
		"`sudo apt-get install docker.io` installs one"
}

// settings says which of the user's settings does not fit the engine that answers, and what to do. It is empty if err
// is not known to come from a setting.
func (r *Runtime) settings(err error) (wrong, advice string) {
	version := r.options.Env(client.EnvOverrideAPIVersion)
	text := message(err)
	verifies := "DOCKER_TLS_VERIFY"
	if r.options.Env(verifies) == "" {
		verifies = "DOCKER_TLS"
	}
	certificates := "the folder of certificates that DOCKER_CERT_PATH names"
	if r.options.Env("DOCKER_CERT_PATH") == "" {
		certificates = "the folder of certificates, which DOCKER_CERT_PATH can name"
	}
	switch {
	case version != "" && (cerrdefs.IsInvalidArgument(err) || cerrdefs.IsNotFound(err)):
		return fmt.Sprintf("does not take DOCKER_API_VERSION=%s (%s)", version, text),
			"unset DOCKER_API_VERSION, and the version is negotiated"
	case containsAny(text, "server gave HTTP response to HTTPS client"):
		return "speaks no TLS", "unset " + verifies + ", or name its TLS port by DOCKER_HOST"
	case containsAny(text, "sent an HTTP request to an HTTPS server"):
		return "wants TLS",
			"set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the folder of ca.pem, cert.pem and key.pem"
	case containsAny(text, "certificate required", "bad certificate", "unknown certificate authority"):
		return "wants another client certificate (" + text + ")", "put its cert.pem and key.pem into " + certificates
	case containsAny(text, "x509: ", "failed to verify certificate"):
		return "has a certificate that is not trusted (" + text + ")",
			"put the ca.pem that signed it into " + certificates
	default:
		return "", ""
	}
}

// isUnreachable reports whether err is of no engine's answer: none took the connection, or whoever asked knows that it
// died before it answered.
func isUnreachable(err error) bool {
	return client.IsErrConnectionFailed(err) || errors.Is(err, container.ErrUnreachable)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// message returns the engine's message, without the client's preamble.
func message(err error) string {
	return strings.TrimSpace(strings.TrimPrefix(err.Error(), "Error response from daemon: "))
}

// kindOf maps an error of the engine to a sentinel, or nil. It compares texts first, since the engine's status codes
// describe the request and not the reason.
func kindOf(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	switch {
	case errors.Is(err, fs.ErrPermission):
		return container.ErrPermission
	case isUnreachable(err):
		return container.ErrUnreachable
	case containsAny(text, "no space left on device", "disk quota exceeded"):
		return container.ErrNoSpace
	case containsAny(text,
		"could not select device driver", // no hook and no CDI
		"CDI device injection failed", "unresolvable CDI devices", cdi.Kind,
		"nvidia-container-cli", "nvidia-container-runtime", // the hook ran and failed
		"libnvidia-ml.so", "no known GPU vendor found", "failed to discover GPU"):
		return container.ErrNoGPU
	case containsAny(text, `"docker-init": executable file not found`):
		return container.ErrNoInit
	case containsAny(text, "port is already allocated", "address already in use", "ports are not available"):
		return container.ErrPortTaken
	case containsAny(text, "cannot assign requested address"):
		return container.ErrNoAddress
	case cerrdefs.IsNotFound(err):
		return container.ErrNotFound
	default:
		return nil
	}
}

// kindOfRegistry maps the message of a failed pull, which is the registry's, to a sentinel, or nil.
func kindOfRegistry(text string) error {
	switch {
	case containsAny(text, "no space left on device", "disk quota exceeded"):
		return container.ErrNoSpace
	case containsAny(text, "no matching manifest", "does not match the specified platform", "manifest unknown",
		"manifest for ",
		"name unknown", "404 not found", "not found: not found", "failed to resolve reference",
		"repository not found") &&
		!isDenied(text) && !isUnreached(text):
		return container.ErrNotFound
	case isDenied(text):
		return container.ErrDenied
	case isUnreached(text):
		return container.ErrRegistry
	}
	// A page in the place of an answer, of which the engine tells the status alone: "error parsing HTTP 429 response
	// body: invalid character '<'", "received unexpected HTTP status: 504 ...".
	told := regexp.MustCompile(`HTTP (\d{3}) response body|unexpected (?:HTTP )?status.*: (\d{3})\b`)
	page := told.FindStringSubmatch(text)
	if page == nil {
		return nil
	}
	switch status := page[1] + page[2]; {
	case status == "401", status == "403":
		return container.ErrDenied
	case status == "404":
		return container.ErrNotFound
	case status == "429", strings.HasPrefix(status, "5"):
		return container.ErrRegistry
	default:
		return nil
	}
}

func isDenied(text string) bool {
	return containsAny(text, "unauthorized", "authentication required", "access denied",
		"access to the resource is denied",
		"denied: ", "no basic auth credentials", "401 ", "403 forbidden", "incorrect username or password")
}

func isUnreached(text string) bool {
	return containsAny(text, "no such host", "server misbehaving", "temporary failure in name resolution",
		"i/o timeout", "tls handshake timeout", "client.timeout exceeded", "context deadline exceeded",
		"connection refused", "connection reset", "network is unreachable", "no route to host", "unexpected eof",
		": eof",
		"x509: ", "certificate", "server gave http response to https client", "proxyconnect",
		"toomanyrequests", "too many requests", "rate limit",
		"500 internal server error", "502 bad gateway", "503 service unavailable", "504 gateway")
}

func containsAny(text string, parts ...string) bool {
	text = strings.ToLower(text)
	for _, part := range parts {
		if strings.Contains(text, strings.ToLower(part)) {
			return true
		}
	}
	return false
}

// takenPort finds the host port in the engine's message about a port that is in use. The known forms are "Bind for
// 127.0.0.1:8000 failed: port is already allocated", "listen tcp4 127.0.0.1:8000: bind: address already in use", and
// "failed to bind host port for 127.0.0.1:8000:172.17.0.2:8001/tcp: address already in use". The registry in the name
// of an image, as in "127.0.0.1:5000/team/image", has a slash behind its port.
func takenPort(err error) (uint16, bool) {
	address := regexp.MustCompile(`(?:\d+\.\d+\.\d+\.\d+|localhost|\[[0-9a-f:]+\]):(\d{1,5})(?:[^\d/]|$)`)
	match := address.FindStringSubmatch(err.Error())
	if match == nil {
		return 0, false
	}
	port, parseErr := strconv.ParseUint(match[1], 10, 16)
	return uint16(port), parseErr == nil
}

// isRemoving reports whether to try a removal again: another client removes the container already, or the container was
// killed while it started, and the engine still holds it (it is "Dead" then).
func isRemoving(err error) bool {
	if err == nil {
		return false
	}
	return cerrdefs.IsConflict(err) && containsAny(err.Error(), "already in progress", "is being removed") ||
		containsAny(err.Error(), "failed to remove root filesystem", "device or resource busy",
			"did not receive an exit event")
}

// isNotRunning reports whether a request failed because the container does not run.
func isNotRunning(err error) bool {
	return cerrdefs.IsNotFound(err) || cerrdefs.IsNotModified(err) ||
		containsAny(err.Error(), "is not running", "no such process", "can only kill running containers")
}
