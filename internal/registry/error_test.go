package registry_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/registry"
)

// An advice is one of whoever asked: the error of others stays what it was. As JSON an error keeps all but its cause.
func TestAdvised(t *testing.T) {
	t.Parallel()
	cause := errors.New("404 Not Found")
	plain := &registry.Error{Kind: registry.NotFound, Ref: "a.example/b/c:1", Registry: "a.example", Err: cause, Text: "look up"}
	advised := plain.Advised("name a mirror")
	if plain.Advice != "" || !errors.Is(advised, cause) || advised.Hint() != plain.Hint()+"; name a mirror" {
		t.Errorf("%+v of %+v: hint %q", advised, plain, advised.Hint())
	}
	text, err := json.Marshal(advised)
	if err != nil {
		t.Fatal(err)
	}
	var back registry.Error
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if want := (registry.Error{
		Kind: registry.NotFound, Ref: plain.Ref, Registry: plain.Registry, Advice: "name a mirror", Text: "look up",
	}); cmp.Diff(want, back) != "" {
		t.Errorf("%s was read as %+v", text, back)
	}
}

// Every kind of error has a hint of its own.
func TestHints(t *testing.T) {
	t.Parallel()
	hints := map[string]registry.Kind{}
	for _, kind := range []registry.Kind{
		registry.Unauthorized, registry.Forbidden, registry.NotFound, registry.RateLimited, registry.Failing, registry.NoAnswer,
		registry.Untrusted, registry.Insecure, registry.BadCredentials, registry.OtherArch, registry.Unreadable,
	} {
		hint := (&registry.Error{Kind: kind, Registry: "a.example"}).Hint()
		if other, twice := hints[hint]; twice || hint == "" {
			t.Errorf("%s has the hint of %q: %q", kind, other, hint)
		}
		hints[hint] = kind
	}
}

func TestCheckReference(t *testing.T) {
	t.Parallel()
	for ref, ok := range map[string]bool{"registry.example/team/image:tag": true, "registry.example/Team/image": false, "": false} {
		if err := registry.CheckReference(ref); (err == nil) != ok || err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", ref, err)
		}
	}
}
