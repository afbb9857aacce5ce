package bundle

import (
	"bytes"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// literals takes out what an environment says is secret, longest first: one that begins another leaves nothing of that
// behind.
func literals(environ []string) *strings.Replacer {
	found := map[string]string{} // and what stands for it
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		secrets := userinfo(name, value)
		if secretVariable().MatchString(name) {
			secrets = append(secrets, value, strings.TrimSpace(value))
		}
		for _, secret := range secrets {
			if len(secret) < leastSecret {
				continue
			}
			for _, form := range written(secret) {
				found[form] = gone
			}
		}
	}
	var pairs []string
	for _, old := range longestFirst(found) {
		pairs = append(pairs, old, found[old])
	}
	return strings.NewReplacer(pairs...)
}

func longestFirst(replacements map[string]string) []string {
	var all []string
	for s := range replacements {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	return all
}

// secretVariable finds the names of variables that hold secrets. "auth" inside a name does not: SSH_AUTH_SOCK is a
// path, and so is what PWD alone holds.
func secretVariable() *regexp.Regexp {
	return regexp.MustCompile(`(?i)^(?:` + strongName +
		`|[\w.-]*credentials?|docker_auth_config|(?:\w*_)?(?:auth|key|sig|signature)|\w*_(?:pwd|pass|pat))\d*$`)
}

// userinfo returns the secrets of the URLs in a variable: of https://user:password@host both and the password, of
// https://token@host the token. A proxy may be written without a scheme, and its password with a slash that should be
// %2F.
func userinfo(name, value string) []string {
	proxy := strings.HasSuffix(strings.ToLower(name), "proxy")
	var secrets []string
	for field := range strings.FieldsSeq(value) { // a variable may hold a list
		scheme, rest, isURL := strings.Cut(field, "://")
		if !isURL {
			rest = field
		}
		if !proxy {
			rest, _, _ = strings.Cut(rest, "/")
		}
		at := strings.LastIndex(rest, "@")
		if at < 0 || !isURL && !proxy {
			continue
		}
		info := rest[:at]
		_, password, both := strings.Cut(info, ":")
		switch {
		case both:
			secrets = append(secrets, password, info)
		case strings.HasPrefix(scheme, "http") && !slices.Contains(commonUsers(), info):
			secrets = append(secrets, info)
		}
	}
	for _, s := range secrets {
		if plain, err := url.PathUnescape(s); err == nil && plain != s {
			secrets = append(secrets, plain)
		}
	}
	return secrets
}

// written returns how a secret may stand in text: as it is, in a URL, quoted by Go, in JSON, and each of these in JSON
// once more, as in an event that tells of a line of JSON.
func written(secret string) []string {
	forms := []string{secret, url.QueryEscape(secret), url.PathEscape(secret), inside(strconv.Quote(secret))}
	for range 2 {
		for _, form := range forms {
			for _, html := range []bool{false, true} {
				forms = append(forms, asJSON(form, html))
			}
		}
		slices.Sort(forms)
		forms = slices.Compact(forms)
	}
	return forms
}

// asJSON returns a string as JSON writes it, without the quotes; with html, as programs do that think of pages: & is
// \u0026.
func asJSON(s string, html bool) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(html)
	if err := e.Encode(s); err != nil {
		return s // a string always has a JSON form
	}
	return inside(strings.TrimSpace(b.String()))
}

func inside(quoted string) string { return quoted[1 : len(quoted)-1] }
