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
}

const (
	// gone stands for a secret.
	gone = "[redacted]"
	// somebody stands for a user's home folder and name.
	somebody = "~"
	// leastSecret is the length from which a variable's value is taken for a secret wherever it stands. A shorter one, as in
	// TOKEN=1, would take the text apart.
	leastSecret = 6
	// leastName is the same for a user's name.
	leastName = 3
)

// New returns a Redactor for a user with a home folder and a name, and an environment as in [os.Environ]: the values of its
// variables that are named like secrets are taken out wherever they stand. It is not safe for concurrent use.
func New(home, user string, environ []string) *Redactor {
	r := &Redactor{gpus: map[string]string{}, rules: rules()}
	r.uuid = regexp.MustCompile(`\b(?:MIG-)?GPU-[0-9a-fA-F]{8}[0-9a-fA-F-]*|\bMIG-[0-9a-fA-F]{8}[0-9a-fA-F-]*`)
	var pairs []string
	for _, variable := range environ {
		if name, value, _ := strings.Cut(variable, "="); len(value) >= leastSecret && secretVariable().MatchString(name) {
			pairs = append(pairs, value, gone)
		}
	}
	r.literals = strings.NewReplacer(longestFirst(pairs)...)
	if home = strings.TrimRight(home, "/"); len(home) > 1 {
		r.rules = append(r.rules, rule{regexp.MustCompile(regexp.QuoteMeta(home) + `\b`), somebody, []string{strings.ToLower(home)}})
	}
	r.rules = append(r.rules, rule{regexp.MustCompile(`((?:/home|/Users|\\Users)[/\\])[^/\\\s"':;,<>]+`), "${1}" + somebody, []string{"/home/", "users"}})
	if len(user) >= leastName && !slices.Contains(commonUsers(), user) {
		r.rules = append(r.rules, rule{regexp.MustCompile(`\b` + regexp.QuoteMeta(user) + `\b`), somebody, []string{strings.ToLower(user)}})
	}
	return r
}

// longestFirst sorts pairs of old and new text, so that a secret that begins another leaves nothing of that behind.
func longestFirst(pairs []string) []string {
	both := make([][2]string, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		both = append(both, [2]string{pairs[i], pairs[i+1]})
	}
	slices.SortStableFunc(both, func(a, b [2]string) int { return len(b[0]) - len(a[0]) })
	sorted := make([]string, 0, len(pairs))
	for _, p := range both {
		sorted = append(sorted, p[0], p[1])
	}
	return sorted
}

// commonUsers are names that systems and images give to everybody. Taking them out would take words out of logs, and hide nobody.
func commonUsers() []string {
	return []string{"", "root", "user", "ubuntu", "debian", "admin", "runner", "docker", "nvidia", "triton-server", "dali", "gpu", "app", "ci", "build", "nobody"}
}

// secretVariable finds the names of variables that hold secrets. "auth" inside a name does not: SSH_AUTH_SOCK is a path.
func secretVariable() *regexp.Regexp {
	return regexp.MustCompile(`(?i)` + secretWords + `|credential|docker_auth_config|(?:^|[_-])auth$`)
}

// secretWords are what flags, keys and variables of secrets have in their names.
const secretWords = `token|secret|passw|passphrase|api[_-]?key|access[_-]?key|private[_-]?key|session[_-]?key`

// rule replaces what a pattern finds in lines that have one of some words, in small letters. The words are there for speed alone.
type rule struct {
	pattern *regexp.Regexp
	by      string
	words   []string
}

// rules are tried in order.
func rules() []rule {
	const name = `((?i:[\w.-]*(?:` + secretWords + `)[\w.-]*)`
	secrets := []string{"token", "secret", "passw", "passphrase", "key"}
	var all []rule
	for _, r := range []struct {
		pattern, by string
		words       []string
	}{
		// https://user:password@host, https://token@host, ssh://user@host. A password may hold a slash that should be %2F.
		{`([A-Za-z][A-Za-z0-9+.-]*://)[^\s"'<>]*@`, "${1}" + gone + "@", []string{"@"}},
		// user:password@host:port, as proxies are written without a scheme. In an image's name@digest no port follows.
		{`[^\s/:@"'=]+:[^\s/@"']+@([\w.-]+:\d{1,5}\b)`, gone + "@${1}", []string{"@"}},
		// Headers, also in JSON and in a command line.
		{
			`(?i)\b((?:proxy-)?authorization|x-registry-auth|x-auth-token|(?:set-)?cookie)(\\*"?\s*[:=]\s*\\*"?)[^"\r\n]+`,
			"${1}${2}" + gone,
			[]string{"authorization", "-auth", "cookie"},
		},
		{`(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}`, "${1} " + gone, []string{"bearer", "basic"}},
		// What docker's configuration holds.
		{`("(?:auth|identitytoken|registrytoken)"\s*:\s*")[^"]*"`, "${1}" + gone + `"`, []string{"auth", "token"}},
		// Tokens that are known by their form: GitHub, GitLab, NVIDIA, Hugging Face, AWS, Slack, PyPI, and JSON web tokens.
		{
			`\b(?:gh[pousr]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|nvapi-[\w-]{16,}|hf_\w{16,}|(?:AKIA|ASIA)[A-Z0-9]{16}|xox[abprs]-[\w-]{10,}|pypi-[\w-]{16,})`,
			gone,
			[]string{"gh", "glpat-", "nvapi-", "hf_", "akia", "asia", "xox", "pypi-"},
		},
		{`\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*`, gone, []string{"eyj"}},
		// name="value", "name": "value", also as text inside JSON; name=value and name: value; --name value.
		{name + `\\*["']?[ \t]*[=:][ \t]*)(\\*["'])[^"'\n]*?(\\*["'])`, "${1}${2}" + gone + "${3}", secrets},
		{name + `["']?[ \t]*[=:][ \t]*)[^\s"'\\\[,;&}][^\s"',;&}]*`, "${1}" + gone, secrets},
		{`(--` + name + `)[ \t]+)[^\s-]\S*`, "${1}" + gone, secrets},
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

// Text returns s without what it should not say.
func (r *Redactor) Text(s string) string {
	s = r.literals.Replace(s)
	if strings.Contains(s, "PRIVATE KEY-----") {
		s = keys().ReplaceAllString(s, gone)
	}
	var b strings.Builder
	for line := range strings.Lines(s) {
		text, end := strings.CutSuffix(line, "\n")
		b.WriteString(r.line(text))
		if end {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func (r *Redactor) line(s string) string {
	small := strings.ToLower(s)
	for _, rule := range r.rules {
		if slices.ContainsFunc(rule.words, func(word string) bool { return strings.Contains(small, word) }) {
			s = rule.pattern.ReplaceAllString(s, rule.by)
		}
	}
	if strings.Contains(s, "GPU-") || strings.Contains(s, "MIG-") {
		s = r.uuid.ReplaceAllStringFunc(s, r.gpu)
	}
	return s
}

// gpu gives each GPU a number of its own, so that two can still be told from each other.
func (r *Redactor) gpu(uuid string) string {
	name, known := r.gpus[uuid]
	if !known {
		kind, _, _ := strings.Cut(uuid, "-")
		name = fmt.Sprintf("%s-[redacted %d]", kind, len(r.gpus)+1)
		r.gpus[uuid] = name
	}
	return name
}
