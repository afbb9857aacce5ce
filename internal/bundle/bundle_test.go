package bundle_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/bundle"
)

func redactor() *bundle.Redactor {
	return bundle.New("/data/home/maria", "maria", []string{
		"NGC_API_KEY=a-key-of-ngc", "LONG_TOKEN=a-key-of-ngc-and-more", "TOKEN=1", "DOCKER_AUTH_CONFIG={\"auths\":{}}", "SSH_AUTH_SOCK=/tmp/ssh/agent.1", "PATH=/usr/bin",
	})
}

func TestText(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ in, want string }{
		// What must go.
		{"http://maria:hunter2@proxy.corp:3128", "http://[redacted]@proxy.corp:3128"},
		{"HTTPS_PROXY=http://m%40x:p/w@proxy:1", "HTTPS_PROXY=http://[redacted]@proxy:1"},
		{"proxy is maria:hunter2@proxy.corp:3128 now", "proxy is [redacted]@proxy.corp:3128 now"},
		{"ssh://maria@gpuhost", "ssh://[redacted]@gpuhost"},
		{`"index":"https://__token__:pypi-AgEIcHlwaS5vcmc@i/simple"`, `"index":"https://[redacted]@i/simple"`},
		{"login with a-key-of-ngc-and-more, a-key-of-ngc", "login with [redacted], [redacted]"},
		{`got {"auths":{}}`, "got [redacted]"},
		{"MY_PAT=abc123 next", "MY_PAT=[redacted]"},
		{"MY_TOKEN=abc123 next", "MY_TOKEN=[redacted]"},
		{"GET /x?token=abc&x=1 and more", "GET /x?[redacted] and more"},
		{"https://host/x?se=1&sig=a%2Fb&access_token=abc", "https://host/x?[redacted]"},
		{"HTTPS_PROXY=http://bob:pa'ss@proxy:3128", "HTTPS_PROXY=http://[redacted]@proxy:3128"},
		{"bob:p/w@proxy:3128 bob:p@w@proxy", "[redacted]@proxy:3128 [redacted]@proxy"},
		{"through bob:hunter2@proxy", "through [redacted]@proxy"},
		{`Get "https://h/blob?X-Amz-Credential=AK%2F1&X-Amz-Date=1&X-Amz-Signature=0a1b": EOF`, `Get "https://h/blob?[redacted]": EOF`},
		{"docker login -u bob -p hunter2 nvcr.io", "docker login -u bob -p [redacted]"},
		{"docker login -p 'two words' x", "docker login -p [redacted]"},
		{"curl -s -u bob:hunter2 https://x", "curl -s -u [redacted]"},
		{`{"credentials": "a b", "n": 1}`, `{"credentials":"[redacted]","n":1}`},
		{"credentials: hunter2", "credentials: [redacted]"},
		{"  - DB_PWD=hunter2 next", "  - DB_PWD=[redacted]"},
		{"TOKEN=[abc]def next", "TOKEN=[redacted]"},
		{"TOKEN=ab&cd;ef,gh next", "TOKEN=[redacted]"},
		{"the password: two words", "the password: [redacted]"},
		{`{"password":"a'b","n":1}`, `{"n":1,"password":"[redacted]"}`},
		{`{"password":"a\"b\\","n":"x y"}`, `{"n":"x y","password":"[redacted]"}`},
		{`{"text":"{\"password\":\"a\\\"b c\",\"n\":1}","m":2}`, `{"m":2,"text":"{\"n\":1,\"password\":\"[redacted]\"}"}`},
		{`{"text":"password: two \"words","m":2}`, `{"m":2,"text":"password: [redacted]"}`},
		{"password='a \"b' c", "password=[redacted]"},
		{`{"args":["--api-key", "abc", "--batch", "8"]}`, `{"args":["--api-key [redacted]"]}`},
		{`{"tokens": ["abc", "d"], "n": [1]}`, `{"n":[1],"tokens":"[redacted]"}`},
		{`Authorization: Digest username="bob"`, "Authorization: [redacted]"},
		{"password: hunter2", "password: [redacted]"},
		{`{"password": "hun ter2", "b": 1}`, `{"b":1,"password":"[redacted]"}`},
		{`{"text":"{\"secret\": \"x y\"}"}`, `{"text":"{\"secret\":\"[redacted]\"}"}`},
		{"client_secret = 'a b'", "client_secret = [redacted]"},
		{"run --api-key abc123 --batch 8", "run --api-key [redacted]"},
		{"Authorization: Bearer abcdefgh.ijk", "Authorization: [redacted]"},
		{"curl -H 'x: basic bWFyaWE6aHVudGVyMg=='", "curl -H 'x: basic [redacted]'"},
		{`{"auths": {"nvcr.io": {"auth": "JG9hdXRodG9rZW46eA=="}}}`, `{"auths":"[redacted]"}`},
		{`{"secret": {"n": 1}, "keyed": "x"}`, `{"keyed":"x","secret":"[redacted]"}`},
		{`[{"text": "token=a"}, {"n": 1.50}]`, `[{"text":"token=[redacted]"},{"n":1.50}]`},
		{"{\n  \"password\": \"a\",\n  \"n\": \"<&>\"\n}\n", "{\n  \"n\": \"<&>\",\n  \"password\": \"[redacted]\"\n}\n"},
		{`say {"identitytoken":"abc"}`, `say {"identitytoken":[redacted]`},
		{"the token is in use, and a tokens file\ntoken: abc", "the token is in use, and a tokens file\ntoken: [redacted]"},
		{"ghp_abcdefghijklmnopqrst and nvapi-abcdefghijklmnopqrst", "[redacted] and [redacted]"},
		{"jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln end", "jwt [redacted] end"},
		{"a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\n", "a\n[redacted]"},
		{"MIIEabcdefghijklmnop\nabcdefghijklmnopq==\n-----END PRIVATE KEY-----\nb", "[redacted]\nb"},
		{"/data/home/maria/x and /data/home/maria", "~/x and ~"},
		{"/home/bob/.cache, /Users/Ann/x, C:\\Users\\Ann\\x", "/home/~/.cache, /Users/~/x, C:\\Users\\~\\x"},
		{"owner maria, group maria.", "owner ~, group ~."},
		{"GPU 0: H100 (UUID: GPU-b2b10123-43d8-7094-32ab-39106cb54c35)", "GPU 0: H100 (UUID: GPU-[redacted 1])"},
		{"device=MIG-ec4c3916-65fa-5948-b9b5-9f21a2ddfcc0", "device=MIG-[redacted 1]"},
		{"    Serial Number                         : 1752124000851", "    Serial Number                         : [redacted]"},
		{"            Name                          : /opt/secret.py ", "            Name                          : [redacted]"},
		{"    GPU PDI                               : 0x1cbca9759a9c", "    GPU PDI                               : [redacted]"},
		// What must stay.
		{"/data/home/mariachi/x, mariachi", "/data/home/~/x, mariachi"},
		{"TOKEN=1", "TOKEN=[redacted]"},
		{"it costs 1 euro", "it costs 1 euro"},
		{"SSH_AUTH_SOCK=/tmp/ssh/agent.1", "SSH_AUTH_SOCK=/tmp/ssh/agent.1"},
		{"nvcr.io/nvidia/tritonserver:25.03-py3@sha256:12345aaaaabbbbbcccccddddd", "nvcr.io/nvidia/tritonserver:25.03-py3@sha256:12345aaaaabbbbbcccccddddd"},
		{"nvcr.io wants credentials: 401 Unauthorized", "nvcr.io wants credentials: 401 Unauthorized"},
		{"    Product Name                          : NVIDIA H100 80GB HBM3", "    Product Name                          : NVIDIA H100 80GB HBM3"},
		{"tokenizer: x, monkey=1, design: y, the signature: (a, b)", "tokenizer: x, monkey=1, design: y, the signature: (a, b)"},
		{"GET https://nvcr.io/v2/nvidia/tritonserver@sha256:0a", "GET https://nvcr.io/v2/nvidia/tritonserver@sha256:0a"},
		{"docker run -u 0:0 --user=0:0 -p 8000:8000 x", "docker run -u 0:0 --user=0:0 -p 8000:8000 x"},
		{"serialized pipeline: 3 kB", "serialized pipeline: 3 kB"},
		{"127.0.0.1:8001 at 12:30:45", "127.0.0.1:8001 at 12:30:45"},
		{"", ""},
	} {
		if diff := cmp.Diff(tt.want, redactor().Text(tt.in)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.in, diff)
		}
	}
}

// Two GPUs stay two, in whichever file they stand.
func TestTextNumbersGPUs(t *testing.T) {
	t.Parallel()
	r := redactor()
	got := r.Text("GPU-aaaaaaaa-1 GPU-bbbbbbbb-1") + " " + r.Text("GPU-bbbbbbbb-1")
	if want := "GPU-[redacted 1] GPU-[redacted 2] GPU-[redacted 2]"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Whoever runs machines tells GPUs apart by their UUIDs; a serial number goes all the same.
func TestTextKeepsGPUs(t *testing.T) {
	t.Parallel()
	in := "GPU 0: H100 (UUID: GPU-b2b10123-43d8-7094-32ab-39106cb54c35)\n    Serial Number                         : 1752124000851"
	if got := redactor().KeepGPUs().Text(in); !strings.Contains(got, "GPU-b2b10123-43d8-7094-32ab-39106cb54c35") || strings.Contains(got, "1752124000851") {
		t.Errorf("got %q", got)
	}
}

// Names that everybody has hide nobody.
func TestTextOfCommonUser(t *testing.T) {
	t.Parallel()
	for _, user := range []string{"root", "ubuntu", "", "x"} {
		if in := "root x ubuntu"; bundle.New("/", user, nil).Text(in) != in {
			t.Errorf("%q: %q", user, bundle.New("/", user, nil).Text(in))
		}
	}
	if got := bundle.New("/root", "root", nil).Text("/root/.cache, root"); got != "~/.cache, root" {
		t.Errorf("got %q", got)
	}
}

// What a real H100 printed loses its identifiers and nothing else.
func TestTextOfNvidiaSMI(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join("testdata", "nvidia-smi-q.xml"))
	if err != nil {
		t.Fatal(err)
	}
	got := redactor().Text(string(data))
	for _, secret := range []string{"1752124000851", "b2b10123", "0x1cbca9759a9cbf40"} {
		if !strings.Contains(string(data), secret) || strings.Contains(got, secret) {
			t.Errorf("%s: in the original %v, in the redacted %v", secret, strings.Contains(string(data), secret), strings.Contains(got, secret))
		}
	}
	before, after := strings.Split(string(data), "\n"), strings.Split(got, "\n")
	if len(before) != len(after) {
		t.Fatalf("%d lines became %d", len(before), len(after))
	}
	var changed []string
	for i := range before {
		if before[i] != after[i] {
			name, _, _ := strings.Cut(after[i], ">")
			changed = append(changed, strings.TrimSpace(name)[1:])
		}
	}
	if diff := cmp.Diff([]string{"serial", "uuid", "pdi", "chassis_serial_number", "host_id", "gpu_fabric_guid", "clusterUuid"}, changed); diff != "" {
		t.Errorf("lines that changed (-want +got):\n%s", diff)
	}
}

// unpack reads an archive as anybody would.
func unpack(t *testing.T, r io.Reader) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for archive := tar.NewReader(zip); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		if h.Mode != 0o600 || h.Uid != 0 || h.Uname != "" {
			t.Errorf("%s has mode %o and owner %d %q", h.Name, h.Mode, h.Uid, h.Uname)
		}
		files[h.Name] = string(data)
	}
}

func TestArchive(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	a := bundle.NewArchive(&b, redactor(), "report", time.Unix(1_700_000_000, 0))
	add := func(name, text, note string) {
		if err := a.Add(name, text, note); err != nil {
			t.Fatal(err)
		}
	}
	add("doctor.json", `{"saw": "/data/home/maria"}`, "")
	add("../runs/./maria/x.log", "bad \xff byte\n", "")
	line := strings.Repeat("0123456789abcde\n", 1<<14) // 256 KiB
	add("long.log", "password=a\n"+line+"the end\n", "")
	a.Missing("nvidia-smi.txt", errors.New("open /data/home/maria/nvidia-smi: no such file"))
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	files := unpack(t, &b)
	want := []string{"report/CONTENTS.txt", "report/doctor.json", "report/long.log", "report/runs/~/x.log"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(files))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := files["report/doctor.json"]; got != `{"saw": "~"}` {
		t.Errorf("doctor.json is %q", got)
	}
	long := files["report/long.log"]
	if len(long) > 256<<10 || !strings.HasSuffix(long, "\nthe end\n") || !strings.HasPrefix(long, "0123456789abcde\n") {
		t.Errorf("long.log has %d bytes, from %.20q to %.20q", len(long), long, long[len(long)-20:])
	}
	for _, says := range []string{"doctor.json (12 bytes)", "long.log (262136 bytes): the last 262144 of 262172 bytes", "nvidia-smi.txt: left out: open ~/nvidia-smi: no such file"} {
		if !strings.Contains(files["report/CONTENTS.txt"], says) {
			t.Errorf("CONTENTS.txt does not say %q:\n%s", says, files["report/CONTENTS.txt"])
		}
	}
}

// However much there is, the archive stays one that a bug tracker takes.
func TestArchiveIsBounded(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	a := bundle.NewArchive(&b, redactor(), "report", time.Unix(0, 0))
	text := strings.Repeat("0123456789abcde\n", 1<<14)
	for range 20 {
		if err := a.Add("x.log", text, ""); err != nil {
			t.Fatal(err)
		}
	}
	total := 0
	for _, f := range a.Files() {
		total += f.Bytes
	}
	if total > 4<<20 || total < 4<<20-1<<10 {
		t.Errorf("%d bytes went in", total)
	}
}

// TestTextOfEnvironment: what the environment says is secret goes in every form that a report may have it in.
func TestTextOfEnvironment(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`said a&"b<c said`:                             `said [redacted] said`,
		`{"text":"a\u0026\"b\u003cc"}`:                 `{"text":"[redacted]"}`,
		`{"text":"a&\"b<c"}`:                           `{"text":"[redacted]"}`,
		`{"text":"{\"x\":\"a\\u0026\\\"b\\u003cc\"}"}`: `{"text":"{\"x\":\"[redacted]\"}"}`,
		"?x=a%26%22b%3Cc&y":                            "?[redacted]",
		"wrong password hunter/2, user bob":            "wrong password [redacted], user bob",
		"it was hunter%2F2":                            "it was [redacted]",
		"index-secret, ubuntu, /data/here":             "[redacted], ubuntu, /data/here",
	} {
		r := bundle.New("/data/home/maria", "maria", []string{
			`NGC_API_KEY=a&"b<c`, "HTTPS_PROXY=http://bob:hunter%2F2@proxy:1", "no_proxy=localhost", "PWD=/data/here",
			"PIP_EXTRA_INDEX_URL=https://index-secret@a/simple https://ubuntu@b/simple/@x", "DOCKER_HOST=ssh://somebody@b",
		})
		if diff := cmp.Diff(want, r.Text(in)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", in, diff)
		}
	}
}

// FuzzText plants a secret in all the forms that are known to hold one: neither its begin nor its end may come out.
func FuzzText(f *testing.F) {
	for _, middle := range []string{"", "'", `"`, `\`, "@", "/", "&", " ", "[a]", `\"`, "é", ",};", "\n", `\\"`} {
		f.Add("token=", middle, "x")
		f.Add("http://", middle, "@")
	}
	f.Fuzz(func(t *testing.T, before, middle, after string) {
		if !utf8.ValidString(middle) || strings.ContainsRune(middle, 0) {
			return // no environment and no JSON has it
		}
		const begin, end = "s3cr3t", "t3rc3s"
		check := func(text string, environ ...string) {
			t.Helper()
			got := bundle.New("/home/maria", "maria", environ).Text(before + "\n" + text + "\n" + after)
			if strings.Contains(got, begin) || strings.Contains(got, end) {
				t.Errorf("%q keeps the secret: %q", text, got)
			}
		}
		if strings.Contains(before+after, begin) || strings.Contains(before+after, end) {
			return
		}
		whole := begin + middle + end
		for _, text := range []string{whole, jsonOf(whole), jsonOf(jsonOf(whole)), strconv.Quote(whole), url.QueryEscape(whole), "x " + whole + " y"} {
			check(text, "A_TOKEN="+whole)
		}
		if !strings.ContainsAny(middle, "/ \t\r\n\v\f\u0085\u00a0") {
			check("bob "+whole+" x", "HTTPS_PROXY=http://bob:"+whole+"@proxy:3128", "HTTP_PROXY=x")
		}
		// Alone, where only its form tells.
		for _, text := range []string{
			`{"password":` + jsonOf(whole) + `,"n":1}`, `{"credentials": ` + jsonOf(whole) + `}`, `{"text":` + jsonOf(`{"api_key": `+jsonOf(whole)+`}`) + `}`,
			jsonOf([]string{"--token", whole}),
		} {
			check(text)
		}
		line := begin + strings.Map(func(r rune) rune {
			if unicode.IsControl(r) || r == '"' || r == '\u2028' || r == '\u2029' {
				return -1
			}
			return r
		}, middle) + end
		check("password: " + line)
		word := strings.Map(func(r rune) rune {
			if unicode.IsSpace(r) {
				return -1
			}
			return r
		}, line)
		for _, form := range []string{
			"TOKEN=%s next", "DB_PWD=%s", "x --api-key %s y", "https://bob:%s@proxy:3128", "bob:%s@proxy:3128", "bob:%s@proxy", "docker login -u bob -p %s nvcr.io",
			"curl -u bob:%s https://x",
		} {
			if strings.HasPrefix(form, "https") && strings.ContainsAny(word, "<>") {
				continue // no program takes it in a URL
			}
			check(fmt.Sprintf(form, word))
		}
		check("GET https://h/x?a=1&X-Amz-Signature=" + url.QueryEscape(word) + "&sig=" + url.QueryEscape(word) + "&b=2")
	})
}

func jsonOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}
