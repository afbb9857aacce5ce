package registry

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Kind is why an image could not be looked up.
type Kind string

// The kinds.
const (
	Unauthorized   Kind = "unauthorized"    // 401
	Forbidden      Kind = "forbidden"       // 403, of the registry or of what stands between
	NotFound       Kind = "not-found"       // 404
	RateLimited    Kind = "rate-limited"    // 429
	Failing        Kind = "failing"         // 5xx
	NoAnswer       Kind = "no-answer"       // in time, or at all: refused, no such host, a proxy
	Untrusted      Kind = "untrusted"       // its certificate
	Insecure       Kind = "insecure"        // it speaks HTTP alone
	BadCredentials Kind = "bad-credentials" // a credential helper fails, or gives no answer
	OtherArch      Kind = "other-arch"      // the image is there, but not for the architecture
	Unreadable     Kind = "unreadable"      // the answer is no registry's, or no image's
)

// Error says why an image could not be looked up.
type Error struct {
	Kind     Kind
	Ref      string // the image
	Registry string // its registry: HOST or HOST:PORT
	// Missing is the digest of the manifest that is not there, of NotFound; empty where it was asked for by a tag.
	Missing string `json:",omitempty"`
	Err     error  `json:"-"` // what was seen
	// Advice is what else to do, which who asks may know; it ends the hint.
	Advice string

	Text string // the whole sentence
	// Elsewhere says that the container engine has credentials or a network of its own: what is refused here it may get.
	Elsewhere bool
}

// Advised is the same error with an advice of whoever asked.
func (e *Error) Advised(advice string) *Error {
	advised := *e
	advised.Advice = advice
	return &advised
}

// Error names the image, the registry and what was seen.
func (e *Error) Error() string { return e.Text }

// Unwrap returns what was seen.
func (e *Error) Unwrap() error { return e.Err }

// Final says that a pull would fail alike. The other kinds are doubts: the container engine has a network, a proxy,
// certificates and mirrors of its own.
func (e *Error) Final() bool {
	return e.Kind == NotFound || e.Kind == OtherArch || e.denied() && !e.Elsewhere
}

// denied says that others may get the image. Nobody was denied anything by no error.
func (e *Error) denied() bool { return e != nil && (e.Kind == Unauthorized || e.Kind == Forbidden) }

// Hint says what to do.
func (e *Error) Hint() string {
	if e.Advice != "" {
		return e.advice() + "; " + e.Advice
	}
	return e.advice()
}

func (e *Error) advice() string {
	switch e.Kind {
	case Unauthorized:
		return "check the name; for a private image: `docker login " + e.Registry + "`"
	case Forbidden:
		return "check the name and the firewall; or `docker login " + e.Registry + "` as somebody who may read it"
	case NotFound:
		return "check the name and the tag"
	case RateLimited:
		return "wait some minutes, or `docker login " + e.Registry + "` for a higher limit"
	case Failing:
		return "try again later"
	case NoAnswer:
		return "check the network and the proxy (HTTPS_PROXY, NO_PROXY)"
	case Untrusted:
		return "name the certificates of your network's authority with SSL_CERT_FILE; " +
			"the container engine has its own in /etc/docker/certs.d/" + e.Registry
	case Insecure:
		return "the container engine gets it if its configuration allows that: " +
			"insecure-registries in Docker's daemon.json, insecure in Podman's registries.conf"
	case BadCredentials:
		return "correct docker's config.json and the credential helper that it names; " +
			"`docker login " + e.Registry + "` writes them anew"
	case OtherArch:
		return "name an image that is built for this machine"
	default:
		return "check that " + e.Registry + " is a container registry, " +
			"and that no proxy's or portal's page answers in its place"
	}
}

// fault puts a kind in a sentence.
func (q *query) fault(kind Kind, err error) *Error {
	e := &Error{
		Kind: kind, Ref: q.ref, Registry: q.parsed.Context().RegistryStr(), Err: err, Elsewhere: q.options.Elsewhere,
	}
	e.Text = fmt.Sprintf("look up %s: %s: %s", q.ref, q.sentence(kind, e.Registry), short(err.Error()))
	return e
}

func (q *query) sentence(kind Kind, registry string) string {
	switch kind {
	case Unauthorized:
		if q.loggedIn {
			return registry + " does not take the credentials that are stored for it"
		}
		return registry + " wants credentials"
	case Forbidden:
		return "a firewall or the registry " + registry + " forbids reading it"
	case NotFound:
		return registry + " has no such image or tag"
	case RateLimited:
		return registry + " was asked too often from here"
	case Failing:
		return registry + " has an error of its own"
	case NoAnswer:
		return registry + " does not answer"
	case Untrusted:
		return "the certificate of " + registry + " is not trusted"
	case Insecure:
		return registry + " speaks HTTP without TLS"
	case BadCredentials:
		return "the credentials for " + registry + " cannot be read"
	case OtherArch:
		return registry + " does not have it for " + q.arch
	default:
		return "what " + registry + " answers is no image"
	}
}

// explain finds the kind of an error of the registry's client.
func (q *query) explain(err error) *Error {
	if known, ok := errors.AsType[*Error](err); ok {
		return known
	}
	// Before a status: on this host plain HTTP is tried too.
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return q.fault(Untrusted, inner(err))
	}
	if answer, ok := errors.AsType[*transport.Error](err); ok {
		fault := q.fault(kindOf(answer), errors.New(words(answer)))
		fault.Missing = missing(answer)
		return fault
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		return q.fault(Insecure, inner(err))
	}
	if _, ok := errors.AsType[*url.Error](err); ok {
		return q.fault(NoAnswer, inner(err))
	}
	return q.fault(Unreadable, err)
}

// missing is the digest that a registry was asked for and has not; empty if it was asked for something else.
func missing(answer *transport.Error) string {
	if answer.StatusCode != http.StatusNotFound || answer.Request == nil {
		return ""
	}
	digest := path.Base(answer.Request.URL.Path)
	if !strings.Contains(digest, ":") {
		return "" // a tag, or another page
	}
	return digest
}

func kindOf(answer *transport.Error) Kind {
	switch code := answer.StatusCode; {
	case code == http.StatusUnauthorized:
		return Unauthorized
	case code == http.StatusForbidden:
		return Forbidden
	case code == http.StatusNotFound && answer.Request != nil && strings.Contains(answer.Request.URL.Path, "/manifests/"):
		return NotFound // elsewhere it is a missing blob, or no registry at all
	case code == http.StatusTooManyRequests:
		return RateLimited
	case code >= http.StatusInternalServerError:
		return Failing
	default:
		return Unreadable
	}
}

// words are the status and what the registry says to it. A body that is no registry's is left out: it may be a page.
func words(answer *transport.Error) string {
	status := fmt.Sprintf("%d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
	for _, d := range answer.Errors {
		if d.Message != "" {
			return status + ", " + d.Message
		}
	}
	return status
}

// inner leaves out the URL, which may hold a token.
func inner(err error) error {
	if tried, ok := errors.AsType[*url.Error](err); ok {
		return tried.Err
	}
	return err
}

// short makes one line of at most 200 characters.
func short(text string) string {
	const limit = 200
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > limit {
		return string(runes[:limit]) + "…"
	}
	return text
}
