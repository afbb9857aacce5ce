package cause

import (
	"regexp"

	"github.com/dalirun/dalirun/internal/registry"
	"github.com/dalirun/dalirun/pipeline"
)

// networkRules are of registries, mirrors and what stands between.
func networkRules() []rule {
	re := regexp.MustCompile
	// what differs from a lock without anybody having changed what is asked for
	ofMachine := re(`(?s)--frozen: .*\n(image|package) `)
	denied := Cause{
		ID: "registry-denied", Turn: Environment,
		Text: "the registry does not give the image to this machine: credentials are missing, wrong or too weak",
	}
	missing := Cause{
		ID: "image-missing", Turn: Environment, Text: "the registry has no such image",
	}
	busy := Cause{
		ID: "registry-busy", Turn: Infrastructure, Retryable: true,
		Text: "the registry limits how much is asked of it, and the limit is reached",
	}
	unreached := Cause{
		ID: "registry-unreachable", Turn: Infrastructure, Retryable: true,
		Text: "the registry gave no answer, or failed",
	}
	untrusted := Cause{
		ID: "tls-untrusted", Turn: Environment,
		Text: "a certificate is not trusted here, as behind a proxy that opens TLS",
	}
	lockOfOtherMachine := Cause{
		ID: "lock-differs", Turn: Environment,
		Text: "what the run would use is not what its lock says, or there is no lock, and it was to keep to one",
	}
	lockOfOtherRequest := Cause{
		ID: "lock-differs", Turn: Product,
		Text: "what the run was asked for is not what its lock says, or there is no lock, and it was to keep to one",
	}
	return []rule{
		{
			cause: Cause{
				ID: "clock-wrong", Turn: Environment,
				Text: "a certificate is not valid at the time that this machine's clock shows",
			},
			says: re(`certificate has expired or is not yet valid|certificate is not yet valid`),
		},
		{
			cause: untrusted,
			says: re(`x509: |certificate is not trusted|self[- ]signed certificate` +
				`|CERTIFICATE_VERIFY_FAILED|certificate verify failed|SSLCertVerificationError`),
		},
		{cause: untrusted, registry: []registry.Kind{registry.Untrusted}},
		{
			cause: Cause{ID: "proxy-denied", Turn: Environment, Text: "a proxy wants to know who asks, or forbids it"},
			says: re(`(?i)Proxy Authentication Required|proxyconnect .*(forbidden|denied)` +
				`|(": |does not answer: )Forbidden\b`),
		},
		{cause: busy, registry: []registry.Kind{registry.RateLimited}},
		{
			cause: busy,
			says:  re(`(?i)toomanyrequests|too many requests|\b429\b|rate limit`), is: []string{isRegistry, isDenied},
		},
		{
			cause:    denied,
			registry: []registry.Kind{registry.Unauthorized, registry.Forbidden, registry.BadCredentials},
		},
		{cause: denied, is: []string{isDenied}},
		{
			cause: Cause{
				ID: "image-gone", Turn: Environment, Text: "the registry has lost an image, or a part of it, that the lock names",
			},
			says: re(`is not in its registry any more|the registry has lost `),
		},
		{
			cause:  lockOfOtherMachine,
			checks: []string{"lock"}, says: ofMachine,
		},
		{
			cause:  lockOfOtherRequest,
			checks: []string{"lock"},
		},
		{
			cause: lockOfOtherMachine,
			says:  ofMachine,
		},
		{
			cause: lockOfOtherRequest,
			says:  re(`^(\S+: )?--frozen: `),
		},
		{cause: missing, registry: []registry.Kind{registry.NotFound, registry.OtherArch}},
		{cause: missing, is: []string{isNotFound}, says: re(`\bpull `)},
		{
			cause: Cause{
				ID: "registry-unfit", Turn: Environment,
				Text: "what answers in the place of the registry is none, or speaks no TLS",
			},
			registry: []registry.Kind{registry.Insecure, registry.Unreadable},
		},
		{cause: unreached, registry: []registry.Kind{registry.Failing, registry.NoAnswer}},
		{cause: unreached, is: []string{isRegistry}},
		{cause: noPermission(), is: []string{isPermission}, says: re(`download the pretrained weights: `)},
		{
			cause: Cause{
				ID: "weights-altered", Turn: Infrastructure, Retryable: true,
				Text: "what was downloaded are not the weights: it was cut off or altered on its way",
			},
			says: re(`download the pretrained weights: .*SHA-256`),
		},
		{
			cause: Cause{
				ID: "weights-refused", Turn: Environment,
				Text: "the host of the pretrained weights, or what stands before it, does not give them to this machine",
			},
			says: re(`download the pretrained weights: .*: 4(0[0-79]|1\d) `),
		},
		{
			cause: Cause{
				ID: "weights-unreachable", Turn: Infrastructure, Retryable: true,
				Text: "the host of the pretrained weights gave no answer, or failed",
			},
			says: re(`download the pretrained weights: |pretrained weights .*(cannot be reached|no answer)`),
		},
		{
			cause: Cause{
				ID: "packages-unreachable", Turn: Infrastructure, Retryable: true,
				Text: "a package index or mirror gave no answer while a local image was built",
			},
			says: re(`Temporary failure resolving|Could not resolve|Could not connect to |Failed to fetch http` +
				`|Unable to connect to |Unable to fetch some archives|ReadTimeoutError|NewConnectionError|ProtocolError` +
				`|Connection (timed out|failed|reset)|Network is unreachable|Hash Sum mismatch` +
				`|50[234] +(Bad|Service|Gateway)|does not have a Release file`),
			kinds: []pipeline.Kind{pipeline.Environment}, inStep: true,
		},
	}
}
