package pipeline

import (
	"maps"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Golden: fingerprints name what is in the caches of users. A change here throws all of that away.
func TestFingerprintIsStable(t *testing.T) {
	t.Parallel()
	f := Facts{"argv": "trtexec --fp16", "text": "a\n\"b\"=\x00\xff"}.with(
		Inputs{{"export-onnx", "model.onnx"}: {Path: "/somewhere", Digest: "sha256:1"}}, []Output{{"build-engine", "model.plan"}})
	const want = "2c3aa26471dfe29725cc11bbe1a5aed7ba0e57fdf959314636d9fa792d9493c0"
	if got := fingerprint("build-engine", f); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestFingerprintIgnoresOrderAndPlace(t *testing.T) {
	t.Parallel()
	in := Inputs{{"a", "x"}: {Digest: "1"}, {"b", "x"}: {Digest: "2"}}
	moved := Inputs{{"b", "x"}: {Digest: "2", Path: "/elsewhere"}, {"a", "x"}: {Digest: "1", Ref: "other:tag"}}
	f, g := Facts{}, Facts{}
	for i := range 100 {
		f["fact "+strconv.Itoa(i)] = strconv.Itoa(i)
		g["fact "+strconv.Itoa(99-i)] = strconv.Itoa(99 - i)
	}
	want := fingerprint("s", f.with(in, nil))
	for range 20 { // maps are walked in another order each time
		if got := fingerprint("s", maps.Clone(g).with(moved, nil)); got != want {
			t.Fatalf("the same facts have two fingerprints: %s and %s", want, got)
		}
	}
	if fingerprint("s", nil) != fingerprint("s", Facts{}) {
		t.Error("no facts and an empty set of facts have two fingerprints")
	}
}

func TestFingerprintsDiffer(t *testing.T) {
	t.Parallel()
	x := Inputs{{"a", "x"}: {Digest: "1"}}
	seen := map[Fingerprint]string{}
	for name, fp := range map[string]Fingerprint{
		"base":                  fingerprint("s", Facts{"n": "v", "m": "w"}.with(x, nil)),
		"another step":          fingerprint("t", Facts{"n": "v", "m": "w"}.with(x, nil)),
		"another value":         fingerprint("s", Facts{"n": "v2", "m": "w"}.with(x, nil)),
		"another name":          fingerprint("s", Facts{"n2": "v", "m": "w"}.with(x, nil)),
		"one more":              fingerprint("s", Facts{"n": "v", "m": "w", "o": ""}.with(x, nil)),
		"one less":              fingerprint("s", Facts{"n": "v"}.with(x, nil)),
		"an empty value":        fingerprint("s", Facts{"n": "v", "m": ""}.with(x, nil)),
		"values swapped":        fingerprint("s", Facts{"n": "w", "m": "v"}.with(x, nil)),
		"another input digest":  fingerprint("s", Facts{"n": "v", "m": "w"}.with(Inputs{{"a", "x"}: {Digest: "2"}}, nil)),
		"another input name":    fingerprint("s", Facts{"n": "v", "m": "w"}.with(Inputs{{"a", "y"}: {Digest: "1"}}, nil)),
		"an input of another":   fingerprint("s", Facts{"n": "v", "m": "w"}.with(Inputs{{"b", "x"}: {Digest: "1"}}, nil)),
		"no input":              fingerprint("s", Facts{"n": "v", "m": "w"}.with(nil, nil)),
		"another output":        fingerprint("s", Facts{"n": "v", "m": "w"}.with(x, []Output{{"s", "y"}})),
		"boundary of a name":    fingerprint("s", Facts{"n=v": "", "m": "w"}.with(x, nil)),
		"boundary with quotes":  fingerprint("s", Facts{`n"="v`: "", "m": "w"}.with(x, nil)),
		"boundary of a line":    fingerprint("s", Facts{"m": "w\"\n\"n\"=\"v"}.with(x, nil)),
		"boundary of the step":  fingerprint("s\n\"m\"=\"w\"", Facts{"n": "v"}.with(x, nil)),
		"a byte that is none":   fingerprint("s", Facts{"n": "\xff", "m": "w"}.with(x, nil)),
		"its replacement":       fingerprint("s", Facts{"n": "\ufffd", "m": "w"}.with(x, nil)),
		"its escape":            fingerprint("s", Facts{"n": `\xff`, "m": "w"}.with(x, nil)),
		"a space at the end":    fingerprint("s", Facts{"n": "v ", "m": "w"}.with(x, nil)),
		"composed letter":       fingerprint("s", Facts{"n": "é", "m": "w"}.with(x, nil)),
		"letter and its accent": fingerprint("s", Facts{"n": "e\u0301", "m": "w"}.with(x, nil)),
	} {
		if other, ok := seen[fp]; ok {
			t.Errorf("%s and %s have one fingerprint", name, other)
		}
		seen[fp] = name
		if len(fp) != 64 || strings.Trim(string(fp), "0123456789abcdef") != "" {
			t.Errorf("%s: %q is no hex SHA-256", name, fp)
		}
	}
}

// FuzzFingerprint: two sets of two facts have one fingerprint only if they are the same set.
func FuzzFingerprint(f *testing.F) {
	f.Add("a", "b", "c", "d", "a", "b", "c", "d")
	f.Add("a", "b", "c", "d", "c", "d", "a", "b")
	f.Add("a", "b\"\n\"c\"=\"d", "e", "", "a", "b", "c", "d\"\n\"e\"=\"")
	f.Add("\xff", "", "", "", "\ufffd", "", "", "")
	f.Fuzz(func(t *testing.T, n1, v1, n2, v2, m1, w1, m2, w2 string) {
		a, b := Facts{n1: v1, n2: v2}, Facts{m1: w1, m2: w2}
		if same := maps.Equal(a, b); same != (fingerprint("s", a) == fingerprint("s", b)) {
			t.Errorf("%q and %q: same facts %v, same fingerprint %v", a, b, same, !same)
		}
	})
}

func TestWithLeavesFactsAlone(t *testing.T) {
	t.Parallel()
	f := Facts{"a": "1"}
	f.with(Inputs{{"s", "x"}: {Digest: "d"}}, nil)
	if diff := cmp.Diff(Facts{"a": "1"}, f); diff != "" {
		t.Errorf("the step's own facts were changed (-want +got):\n%s", diff)
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	same := strings.Repeat("--flag ", 20)
	for name, c := range map[string]struct {
		was, is Facts
		want    string
	}{
		"none":            {Facts{"a": "1", "e": ""}, Facts{"a": "1", "e": ""}, ""},
		"changed":         {Facts{"a": "1"}, Facts{"a": "2"}, "a: 1 → 2"},
		"new":             {Facts{}, Facts{"a": "1"}, "a is new: 1"},
		"gone":            {Facts{"a": "1"}, Facts{}, "a is gone"},
		"in name order":   {Facts{"b": "1", "c": "3"}, Facts{"b": "2", "a": "0"}, "a is new: 0; b: 1 → 2; c is gone"},
		"new and empty":   {Facts{}, Facts{"a": ""}, `a is new: ""`},
		"gone, was empty": {Facts{"a": ""}, Facts{}, "a is gone"},
		"emptied":         {Facts{"a": "1"}, Facts{"a": ""}, `a: 1 → ""`},
		"filled":          {Facts{"a": ""}, Facts{"a": "1"}, `a: "" → 1`},
		"40 letters":      {Facts{"a": "x"}, Facts{"a": strings.Repeat("ü", 40)}, "a: x → " + strings.Repeat("ü", 40)},
		"41 letters":      {Facts{"a": "x"}, Facts{"a": strings.Repeat("ü", 41)}, "a: x → " + strings.Repeat("ü", 39) + "…"},
		"late difference": {Facts{"a": same + "1"}, Facts{"a": same + "2"}, "a: … --flag 1 → … --flag 2"},
		"late end":        {Facts{"a": same}, Facts{"a": same + "--fp16"}, "a: … --flag  → … --flag --fp16"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list := changes(c.was, c.is)
			texts := make([]string, len(list))
			for i, change := range list {
				texts[i] = change.String()
			}
			if diff := cmp.Diff(c.want, strings.Join(texts, "; ")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if got := (Change{Fact: "it was asked for"}).String(); got != "it was asked for" {
		t.Errorf("a reason is told as %q", got)
	}
}
