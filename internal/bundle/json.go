package bundle

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
)

// structured returns JSON that is JSON still: what plain leaves of s may have lost its end. Members lose their order
// then.
func (r *Redactor) structured(s, plain string) string {
	if s == plain || !json.Valid([]byte(s)) || json.Valid([]byte(plain)) {
		return plain
	}
	numbers := json.NewDecoder(strings.NewReader(s))
	numbers.UseNumber() // as they are written
	var value any
	if numbers.Decode(&value) != nil {
		return plain
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if strings.Contains(s, "\n") {
		encoder.SetIndent("", "  ")
	}
	if encoder.Encode(r.value(value, memberName())) != nil {
		return plain
	}
	if strings.HasSuffix(s, "\n") {
		return b.String()
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// memberName finds the names of members that hold secrets.
func memberName() *regexp.Regexp {
	return regexp.MustCompile(`(?i)^(?:` + strongName + `|` + weakName + `)$`)
}

// value returns a decoded value without what it should not say.
func (r *Redactor) value(v any, secret *regexp.Regexp) any {
	switch v := v.(type) {
	case string:
		return r.text(v)
	case []any:
		if line, ok := commandLine(v); ok && r.text(line) != line {
			return []any{r.text(line)}
		}
		for i := range v {
			v[i] = r.value(v[i], secret)
		}
		return v
	case map[string]any:
		for name := range v {
			if secret.MatchString(name) {
				v[name] = gone
				continue
			}
			v[name] = r.value(v[name], secret)
		}
		return v
	default:
		return v
	}
}

// commandLine joins a list of strings: in a command's arguments a secret stands behind the flag that names it.
func commandLine(list []any) (string, bool) {
	words := make([]string, len(list))
	for i, v := range list {
		word, ok := v.(string)
		if !ok {
			return "", false
		}
		words[i] = strings.ReplaceAll(word, "\n", " ")
	}
	return strings.Join(words, " "), true
}
