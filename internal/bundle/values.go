package bundle

import (
	"regexp"
	"strings"
)

const (
	// strongName is a name of secrets that says so wherever it stands. A word ends behind it: a tokenizer is none.
	strongName = `[\w.-]*(?:token|` + wordyName + `|(?:api|access|private|secret|session|signing|account|encryption)[_ -]?key)s?\d*(?:[_.-][\w.-]*)?`
	// wordyName is a name of secrets that may have spaces.
	wordyName = `secret|passw[a-z]*|passphrase|authorization|cookie|registry-auth`
	// weakName is one that also is a word of other sentences, as in "wants credentials: 401": it needs an equals sign, quotes or to
	// begin the line.
	weakName = `[\w.-]*(?:credential|signature)s?|\b(?:[\w.-]*[_.-])?(?:sig|pwd|key|auth)s?\d*|\b[\w.-]*[_-]pa(?:ss|t)\d*`
)

// assigned finds where the value of a secret begins: name=value, name: value, "name": "value", --name value, "--name", "value". Its
// groups are the quote behind the name, and what stands between the name and the value.
func assigned() *regexp.Regexp {
	const quote, equals, colon = `(\\*["'])`, `([ \t]*(?::=|=>?)[ \t]*)`, `([ \t]*:[ \t]*)`
	return regexp.MustCompile(`(?i)(?:` +
		`(?:` + strongName + `)(?:` + quote + `?(?:` + equals + `|` + colon + `))` +
		`|(?:` + weakName + `)(?:` + quote + `?` + equals + `|` + quote + colon + `)` +
		`|^(?:[ \t]*(?:- )?)(?:` + weakName + `)` + colon +
		`|--(?:` + strongName + `)(?:` + quote + `,[ \t]*|[ \t]+)` +
		`)`)
}

// assignedWords are what a line with such a name has, in small letters. They are there for speed alone.
func assignedWords() []string {
	return []string{"token", "secret", "pass", "pat", "authorization", "cookie", "auth", "key", "credential", "sig", "pwd"}
}

// values takes out the values that stand behind names of secrets.
func (r *Redactor) values(s string) string {
	var b strings.Builder
	for {
		at := r.assigned.FindStringIndex(s)
		if at == nil {
			b.WriteString(s)
			return b.String()
		}
		name := s[at[0]:at[1]]
		inQuery := at[0] > 0 && strings.IndexByte("?&", s[at[0]-1]) >= 0
		b.WriteString(s[:at[1]])
		s = s[at[1]:]
		open, secret := value(s, name, inQuery, r.wordy.MatchString(name))
		if secret == "" {
			continue
		}
		b.WriteString(open + gone)
		s = s[len(open)+len(secret):]
	}
}

// value returns the secret that s begins with and the quote before it. name is what stands before that, maybe in the query of a URL;
// a wordy one may have a value with spaces.
func value(s, name string, inQuery, wordy bool) (open, secret string) {
	if open = opening(s); open != "" {
		return open, s[len(open):][:closing(s[len(open):], open)]
	}
	quoted := strings.ContainsAny(name, `"'`)
	var end int
	switch flag := strings.HasPrefix(name, "--"); {
	case quoted && strings.HasPrefix(s, "{"): // what is in it has names of its own
		return "", ""
	case quoted && strings.HasPrefix(s, "["):
		return s[:1], s[1:][:first(s[1:], "]")]
	case quoted: // null, or a number
		end = first(s, " \t,]}\"")
	case flag && strings.HasPrefix(s, "--"):
		return "", "" // a flag without a value
	case inQuery:
		end = first(s, " \t&#\"")
	case wordy && !flag && strings.ContainsAny(name, ": \t"): // not name=value, as a shell has it
		end = closing(s, `"`)
	default:
		end = min(first(s, " \t"), closing(s, `"`))
	}
	return "", s[:end]
}

// first is where the first of some characters is, or the end.
func first(s, of string) int {
	if i := strings.IndexAny(s, of); i >= 0 {
		return i
	}
	return len(s)
}

// opening returns the quote that s begins with, with the backslashes that it has in JSON inside JSON.
func opening(s string) string {
	rest := strings.TrimLeft(s, `\`)
	if rest == "" || rest[0] != '"' && rest[0] != '\'' {
		return ""
	}
	return s[:len(s)-len(rest)+1]
}

// closing is where the text ends that a quote opened: at the same quote, or at the end of the line. A quote with n backslashes, where
// n+1 is a power of two, is closed by one with n more than any number of escaped backslashes, 2(n+1) each, has; or by one with fewer,
// which ends what is around it.
func closing(s, open string) int {
	n, quote := len(open)-1, open[len(open)-1]
	slashes := 0
	for i := range len(s) {
		switch s[i] {
		case '\\':
			slashes++
			continue
		case quote:
			if slashes%(2*(n+1)) <= n {
				return i - min(n, slashes%(2*(n+1)))
			}
		}
		slashes = 0
	}
	return len(s)
}
