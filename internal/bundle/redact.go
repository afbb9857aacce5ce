// Package bundle makes the archive of a bug report: text files, with what is nobody else's business taken out of each.
package bundle

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Redactor takes secrets and persons out of text. What it puts in their place says what was there.
type Redactor struct {
	literals *strings.Replacer
	rules    []rule
	uuid     *regexp.Regexp    // of a GPU or an instance
	gpus     map[string]string // what stands for one
	keepGPUs bool
}

// KeepGPUs has the redactor leave the UUIDs of GPUs, by which those who run machines tell them apart.
func (r *Redactor) KeepGPUs() *Redactor {
	r.keepGPUs = true
	return r
}

const (
	// gone stands for a secret.
	gone = "[redacted]"
	// somebody stands for a user's home folder and name.
	somebody = "~"
	// leastSecret is the length from which a variable's value is taken for a secret wherever it stands. A shorter one,
	// as in TOKEN=1, would take the text apart.
	leastSecret = 6
	// leastName is the same for a user's name.
	leastName = 3
)

// New returns a Redactor for a user with a home folder and a name, and an environment as in [os.Environ]: the values of
// its variables that are named like secrets, and the user and password of its URLs, are taken out wherever they stand,
// also as JSON, Go and URLs write them. It is not safe for concurrent use.
func New(home, user string, environ []string) *Redactor {
	r := &Redactor{gpus: map[string]string{}, rules: rules(), literals: literals(environ)}
	r.uuid = regexp.MustCompile(`\b(?:MIG-)?GPU-[0-9a-fA-F]{8}[0-9a-fA-F-]*|\bMIG-[0-9a-fA-F]{8}[0-9a-fA-F-]*`)
	if home = strings.TrimRight(home, "/"); len(home) > 1 {
		r.rules = append(r.rules, rule{
			regexp.MustCompile(regexp.QuoteMeta(home) + `\b`), somebody,
			[]string{strings.ToLower(home)},
		})
	}
	r.rules = append(r.rules, rule{
		regexp.MustCompile(`((?:/home|/Users|\\Users)[/\\])[^/\\\s"':;,<>]+`), "${1}" + somebody,
		[]string{"/home/", "users"},
	})
	if len(user) >= leastName && !slices.Contains(commonUsers(), user) {
		r.rules = append(r.rules, rule{
			regexp.MustCompile(`\b` + regexp.QuoteMeta(user) + `\b`), somebody,
			[]string{strings.ToLower(user)},
		})
	}
	return r
}

// commonUsers are names that systems and images give to everybody. Taking them out would take words out of logs, and
// hide nobody.
func commonUsers() []string {
	return []string{
		"", "root", "user", "ubuntu", "debian", "admin", "runner", "docker", "nvidia", "triton-server",
		"dali", "gpu", "app", "ci", "build", "nobody",
	}
}

// rule replaces what a pattern finds in lines that have one of some words, in small letters. The words are there for
// speed alone.
type rule struct {
	pattern *regexp.Regexp
	by      string
	words   []string
}

const (
	// strongName is a name of secrets that says so wherever it stands. A word ends behind it: a tokenizer is none.
	strongName = `[\w.-]*(?:token|secret|passw[a-z]*|passphrase|authorization|cookie|registry-auth|` +
		`(?:api|access|private|secret|session|signing|account|encryption)[_ -]?key)s?\d*(?:[_.-][\w.-]*)?`
	// weakName is one that also is a word of other sentences, as in "wants credentials: 401": it needs an equals sign,
	// quotes or to begin the line.
	weakName = `(?:[\w.-]*(?:credential|signature)s?|\b(?:[\w.-]*[_.-])?(?:sig|pwd|key|auth)s?\d*` +
		`|\b[\w.-]*[_-]pa(?:ss|t)\d*)`
	// named is where the value of a secret begins: name=value, name: value, "name": "value", --name value, "--name",
	// "value".
	named = strongName + `\\*["']?\s*[:=]|` + weakName + `(?:\\*["']\s*[:=]|\s*=)|^\s*(?:- )?` + weakName + `\s*:|--` +
		strongName + `(?:\\*["'],|\s)`
)

// rules are tried in order.
func rules() []rule {
	var all []rule
	for _, r := range []struct {
		pattern, by string
		words       []string
	}{
		// https://user:password@host, https://token@host, ssh://user@host. A password may hold a slash, an at sign or a
		// quote that should be escaped.
		{`([A-Za-z][A-Za-z0-9+.-]*://)[^\s"<>]*@`, "${1}" + gone + "@", []string{"@"}},
		// user:password@host, as proxies are written without a scheme. "://" is no user's end.
		{`[^\s/:@"'=]+:(?:/?[^\s"/])[^\s"]*@`, gone + "@", []string{"@"}},
		// The query of a URL: what signs a download stands there.
		{`\?[\w.~%-]+=[^\s"<>]*`, "?" + gone, []string{"?"}},
		// From the name of a secret on a line says nothing more: each shell, language and log has its own end of a
		// value.
		{
			`(?i)((?:` + named + `)\s*).+`, "${1}" + gone,
			[]string{
				"token", "secret", "pass", "pat", "authorization", "cookie", "auth", "key", "credential", "sig",
				"pwd",
			},
		},
		// docker login -p password, curl -u user:password.
		{`(\b(?:login|sshpass)\s(?:.*?\s)?-p[= ]?\s*).+`, "${1}" + gone, []string{"login", "sshpass"}},
		{`(\bcurl\s(?:.*?\s)?(?:-u|-U|--user|--proxy-user)[= ]?\s*).+`, "${1}" + gone, []string{"curl"}},
		{`(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}`, "${1} " + gone, []string{"bearer", "basic"}},
		// Tokens that are known by their form: GitHub, GitLab, NVIDIA, Hugging Face, AWS, Slack, PyPI, and JSON web
		// tokens.
		{
			`\b(?:gh[pousr]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|nvapi-[\w-]{16,}|hf_\w{16,}` +
				`|(?:AKIA|ASIA)[A-Z0-9]{16}|xox[abprs]-[\w-]{10,}|pypi-[\w-]{16,})`,
			gone,
			[]string{"gh", "glpat-", "nvapi-", "hf_", "akia", "asia", "xox", "pypi-"},
		},
		{`\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*`, gone, []string{"eyj"}},
		// What nvidia-smi -q tells of one board, and of those who use it; with -x as well.
		{
			`(?i)^(\s*(?:[\w ]*serial number|gpu pdi|gpu fabric guid|host id|clusteruuid|name {2,})\s*:\s+)(\S.*?)[ \t\r]*$`,
			"${1}" + gone,
			[]string{"serial", "gpu pdi", "guid", "host id", "clusteruuid", "name  "},
		},
		{
			`(<(?:serial|chassis_serial_number|pdi|gpu_fabric_guid|host_id|process_name|clusterUuid)>)[^<]*<`,
			"${1}" + gone + "<",
			[]string{"serial", "pdi", "guid", "host_id", "process_name", "clusteruuid"},
		},
	} {
		all = append(all, rule{regexp.MustCompile(r.pattern), r.by, r.words})
	}
	return all
}

// keys finds private keys: whole ones, the end of one whose begin was cut off, and one that is cut off itself.
func keys() *regexp.Regexp {
	return regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)` +
		`|(?:[A-Za-z0-9+/=]{16,}\s+)+-----END [A-Z ]*PRIVATE KEY-----`)
}

// Text returns s without what it should not say. From the name of a secret on, a line says nothing more. JSON stays
// JSON, also where each line is a value of its own.
func (r *Redactor) Text(s string) string {
	return r.text(r.literals.Replace(s))
}

func (r *Redactor) text(s string) string {
	plain := s
	if strings.Contains(s, "PRIVATE KEY-----") {
		plain = keys().ReplaceAllString(s, gone)
	}
	var b strings.Builder
	for line := range strings.Lines(plain) {
		text, end := strings.CutSuffix(line, "\n")
		b.WriteString(r.structured(text, r.line(text)))
		if end {
			b.WriteByte('\n')
		}
	}
	return r.structured(s, b.String())
}

func (r *Redactor) line(s string) string {
	// The digest in an image's name is not the host behind a password.
	const digest, placeholder = "@sha256:", "\x00sha256:"
	s = strings.ReplaceAll(s, digest, placeholder)
	small := strings.ToLower(s)
	contains := func(word string) bool { return strings.Contains(small, word) }
	for _, rule := range r.rules {
		if slices.ContainsFunc(rule.words, contains) {
			s = rule.pattern.ReplaceAllString(s, rule.by)
		}
	}
	if !r.keepGPUs && (strings.Contains(s, "GPU-") || strings.Contains(s, "MIG-")) {
		s = r.uuid.ReplaceAllStringFunc(s, r.gpu)
	}
	return strings.ReplaceAll(s, placeholder, digest)
}

// gpu gives each GPU a number of its own, so that two can still be distinguished.
func (r *Redactor) gpu(uuid string) string {
	name, known := r.gpus[uuid]
	if !known {
		kind, _, _ := strings.Cut(uuid, "-")
		name = fmt.Sprintf("%s-[redacted %d]", kind, len(r.gpus)+1)
		r.gpus[uuid] = name
	}
	return name
}
