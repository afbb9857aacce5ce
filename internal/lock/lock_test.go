package lock_test

import (
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/lock"
	"github.com/dalirun/dalirun/pipeline"
)

var update = flag.Bool("update", false, "write the golden files")

// sum is a digest of nothing in particular.
func sum(c string) lock.Digest { return lock.Digest("sha256:" + strings.Repeat(c, 64)) }

func ngc() lock.Lock {
	return lock.Lock{
		Source: lock.NGC, Release: "25.03",
		Images: map[string]lock.Image{
			lock.Exporter: {
				Ref: "nvcr.io/nvidia/pytorch:25.03-py3", Digest: sum("1"),
				Platforms: map[string]lock.Digest{"linux/amd64": sum("2"), "linux/arm64": sum("3")},
			},
			lock.Server: {Ref: "registry.example:5000/team/triton:prod", ID: sum("4")},
		},
		Weights: lock.Weights{Kind: "pretrained", URL: "https://example.com/w.pth", SHA256: sum("5")},
		Scripts: map[string]lock.Digest{"export_onnx.py": sum("6"), "program.py": sum("7")},
		Labels:  sum("8"), Picture: sum("9"),
	}
}

func local() lock.Lock {
	return lock.Lock{
		Source: lock.Local,
		Images: map[string]lock.Image{lock.Base: {Ref: "debian:bookworm-slim", Digest: sum("a")}},
		Builds: map[string]lock.Build{
			lock.Exporter: {Hash: sum("b"), Packages: map[string]map[string]string{"linux/amd64": {"libc6": "2.36-9", "torch": "2.6.0"}}},
			lock.Server: {Hash: sum("c"), Packages: map[string]map[string]string{
				"linux/amd64": {"numpy": "1.26.4", "libstdc++6": "12.2.0-14+deb12u1"}, "linux/arm64": {"numpy": "1.26.4"},
			}},
		},
		Weights: lock.Weights{Kind: "random", Seed: 0},
		Labels:  sum("8"), Picture: sum("9"),
	}
}

// What is written is what is read, and the text is that of the golden files: whoever reads a diff of one depends on it.
func TestText(t *testing.T) {
	t.Parallel()
	for name, l := range map[string]lock.Lock{"ngc": ngc(), "local": local()} {
		golden := filepath.Join("testdata", name+".lock")
		if *update {
			if err := os.WriteFile(golden, l.Text(), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(l.Text())); diff != "" {
			t.Errorf("%s; -update writes it anew (-golden +now):\n%s", name, diff)
		}
		read, err := lock.Parse(golden, want)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(l, read); diff != "" {
			t.Errorf("%s (-written +read):\n%s", name, diff)
		}
		crlf := strings.ReplaceAll(string(want), "\n", "\r\n") + "\r\n\r\n# a remark\r\n"
		if read, err := lock.Parse(golden, []byte(crlf)); err != nil || !cmp.Equal(l, read) {
			t.Errorf("%s as an editor of Windows writes it: %v", name, err)
		}
	}
}

// Each line that cannot be is a usage error, which names it.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	whole := string(ngc().Text())
	replaced := func(old, by string) string {
		text := strings.Replace(whole, old, by, 1)
		if text == whole {
			t.Fatalf("%q is not in the text", old)
		}
		return text
	}
	digest := string(sum("8"))
	for name, tt := range map[string]struct{ text, says, hint string }{
		"nothing":          {"", "x.lock: it is empty", "remove it, and `dalirun lock` writes it anew"},
		"remarks alone":    {"# version 1\n\n", "x.lock: it is empty", ""},
		"no version":       {strings.Replace(whole, "version 1\n", "", 1), `x.lock:2: it does not begin with the line "version 1"`, ""},
		"another version":  {replaced("version 1", "version 2"), `x.lock:2: it is of version "2", and this dalirun reads version 1`, "use the dalirun that wrote it"},
		"a merge conflict": {replaced("labels ", "<<<<<<< HEAD\nlabels "), `x.lock:9: unknown line "<<<<<<< HEAD"`, "remove the line"},
		"an unknown fact":  {whole + "colour blue\n", `x.lock:18: unknown line "colour blue"`, ""},
		"an unknown role":  {whole + "image other ref a:b\n", `unknown line "image other ref a:b"`, ""},
		"two blanks":       {replaced("labels ", "labels  "), "unknown line", ""},
		"a blank before":   {replaced("labels ", " labels "), "unknown line", ""},
		"a word too many":  {replaced("release 25.03", "release 25.03 25.04"), "unknown line", ""},
		"twice":            {whole + "labels " + digest + "\n", `x.lock:18: "labels" stands twice, first in line 9`, "keep one of them"},
		"a short digest":   {replaced(digest, "sha256:88"), `x.lock:9: labels: "sha256:88" is not a digest, sha256: and 64 hexadecimal digits`, ""},
		"capital digits":   {replaced(string(sum("2")), string(sum("A"))), "is not a digest", ""},
		"another hash":     {replaced(digest, strings.Replace(digest, "sha256", "sha512", 1)), "is not a digest", ""},
		"no release":       {replaced("release 25.03", "release newest"), `release: "newest" is not a release, as 25.03`, ""},
		"no source":        {replaced("source ngc", "source here"), `source: "here" is not ngc or local`, ""},
		"no URL":           {replaced("https://example.com", "file://"), "is not a URL", ""},
		"a seed of others": {whole + "weights seed 7\n", `x.lock:18: "weights seed" says nothing of pretrained weights`, ""},
		"a lost fact":      {replaced("picture "+string(sum("9"))+"\n", ""), `x.lock: it lacks the line "picture"`, "remove it, and `dalirun lock` writes it anew"},
		"a lost image":     {replaced("image exporter digest "+string(sum("1"))+"\n", ""), `it lacks the line "image exporter digest"`, ""},
		"no build":         {strings.Replace(string(local().Text()), "build server "+string(sum("c"))+"\n", "", 1), `it lacks the line "build server"`, ""},
	} {
		_, err := lock.Parse("x.lock", []byte(tt.text))
		fault, ok := errors.AsType[*pipeline.Fault](err)
		if !ok || fault.Kind != pipeline.Usage || fault.Hint == "" {
			t.Errorf("%s: %v is no usage fault with a hint", name, err)
			continue
		}
		if !strings.Contains(fault.Error(), tt.says) || !strings.Contains(fault.Hint, tt.hint) {
			t.Errorf("%s: %q, hint %q; want %q, %q", name, fault, fault.Hint, tt.says, tt.hint)
		}
	}
}

func TestPackages(t *testing.T) {
	t.Parallel()
	got := lock.Packages("libc6 2.36-9\n\nPyYAML 6.0.3\nsix 1.16.0\nsix 1.17.0\nsix 1.17.0,1\nnot a package\n")
	want := map[string]string{"libc6": "2.36-9", "PyYAML": "6.0.3", "six": "1.16.0,1.17.0,1.17.0,1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// What a run does not know yet is no difference; what it knows otherwise is one, each once.
func TestCompare(t *testing.T) {
	t.Parallel()
	image := func(l *lock.Lock, role string, change func(*lock.Image)) {
		i := l.Images[role]
		change(&i)
		l.Images = maps.Clone(l.Images)
		l.Images[role] = i
	}
	for name, tt := range map[string]struct {
		locked lock.Lock
		change func(run *lock.Lock)
		want   []string
	}{
		"the same":        {ngc(), func(*lock.Lock) {}, nil},
		"nothing known":   {ngc(), func(l *lock.Lock) { *l = lock.Lock{} }, nil},
		"other source":    {ngc(), func(l *lock.Lock) { *l = local() }, []string{"source: ngc → local"}},
		"other release":   {ngc(), func(l *lock.Lock) { l.Release = "25.04" }, []string{"release: 25.03 → 25.04"}},
		"no release":      {ngc(), func(l *lock.Lock) { l.Release = "" }, []string{"release: 25.03, which is not there"}},
		"moved":           {ngc(), func(l *lock.Lock) { image(l, lock.Exporter, func(i *lock.Image) { i.Digest = sum("0") }) }, []string{"image exporter digest: sha256:111111111111… → sha256:000000000000…"}},
		"unknown digest":  {ngc(), func(l *lock.Lock) { image(l, lock.Exporter, func(i *lock.Image) { i.Digest, i.Platforms = "", nil }) }, nil},
		"other platforms": {ngc(), func(l *lock.Lock) { image(l, lock.Exporter, func(i *lock.Image) { i.Platforms = nil }) }, nil},
		"a digest now": {ngc(), func(l *lock.Lock) { image(l, lock.Server, func(i *lock.Image) { i.ID, i.Digest = "", sum("0") }) }, []string{
			"image server digest: sha256:000000000000…, which is not in the lock", "image server id: sha256:444444444444…, which is not there",
		}},
		"other image":   {ngc(), func(l *lock.Lock) { image(l, lock.Server, func(i *lock.Image) { i.Ref = "a:b" }) }, []string{"image server ref: registry.example:5000/team/triton:prod → a:b"}},
		"other script":  {ngc(), func(l *lock.Lock) { l.Scripts = map[string]lock.Digest{"program.py": sum("0"), "new.py": sum("1")} }, []string{"script export_onnx.py: sha256:666666666666…, which is not there", "script new.py: sha256:111111111111…, which is not in the lock", "script program.py: sha256:777777777777… → sha256:000000000000…"}},
		"other weights": {ngc(), func(l *lock.Lock) { l.Weights = lock.Weights{Kind: "random", Seed: 7} }, []string{"weights kind: pretrained → random", "weights seed: 7, which is not in the lock", "weights sha256: sha256:555555555555…, which is not there", "weights url: https://example.com/w.pth, which is not there"}},
		"other seed":    {local(), func(l *lock.Lock) { l.Weights.Seed = 8 }, []string{"weights seed: 0 → 8"}},
		"other labels":  {ngc(), func(l *lock.Lock) { l.Labels, l.Picture = sum("0"), sum("0") }, []string{"labels: sha256:888888888888… → sha256:000000000000…", "picture: sha256:999999999999… → sha256:000000000000…"}},
		"not built yet": {local(), func(l *lock.Lock) {
			l.Builds = map[string]lock.Build{lock.Exporter: {Hash: sum("b")}, lock.Server: {Hash: sum("0")}}
		}, []string{"build server: sha256:cccccccccccc… → sha256:000000000000…"}},
		"other packages": {local(), func(l *lock.Lock) {
			l.Builds = map[string]lock.Build{lock.Exporter: {Hash: sum("b"), Packages: map[string]map[string]string{"linux/amd64": {"torch": "2.7.0", "zlib": "1"}}}}
		}, []string{"package exporter linux/amd64 libc6: 2.36-9, which is not there", "package exporter linux/amd64 torch: 2.6.0 → 2.7.0", "package exporter linux/amd64 zlib: 1, which is not in the lock"}},
		"another platform": {local(), func(l *lock.Lock) {
			l.Builds = map[string]lock.Build{lock.Exporter: {Hash: sum("b"), Packages: map[string]map[string]string{"linux/arm64": {"torch": "2.7.0", "zlib": "1"}}}}
		}, []string{"package exporter linux/arm64: a list of 2, which is not in the lock"}},
	} {
		run := tt.locked
		tt.change(&run)
		var got []string
		for _, c := range lock.Compare(tt.locked, run) {
			got = append(got, c.String())
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// An update tells of everything, also of what no run compares.
func TestDiff(t *testing.T) {
	t.Parallel()
	is := ngc()
	is.Images = maps.Clone(is.Images)
	is.Images[lock.Exporter] = lock.Image{Ref: "nvcr.io/nvidia/pytorch:25.03-py3", Digest: sum("1"), Platforms: map[string]lock.Digest{"linux/amd64": sum("0")}}
	want := []lock.Change{
		{Fact: "image exporter linux/amd64", Was: string(sum("2")), Is: string(sum("0"))},
		{Fact: "image exporter linux/arm64", Was: string(sum("3"))},
	}
	if diff := cmp.Diff(want, lock.Diff(ngc(), is)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A machine that looks at its own platform keeps what another one found on its, unless the build is another.
func TestMerged(t *testing.T) {
	t.Parallel()
	here := lock.Lock{Source: lock.Local, Builds: map[string]lock.Build{
		lock.Exporter: {Hash: sum("0"), Packages: map[string]map[string]string{"linux/arm64": {"torch": "2.7.0"}}},
		lock.Server:   {Hash: sum("c"), Packages: map[string]map[string]string{"linux/arm64": {"numpy": "1.26.5"}}},
	}}
	want := map[string]lock.Build{
		lock.Exporter: here.Builds[lock.Exporter],
		lock.Server: {Hash: sum("c"), Packages: map[string]map[string]string{
			"linux/amd64": local().Builds[lock.Server].Packages["linux/amd64"], "linux/arm64": {"numpy": "1.26.5"},
		}},
	}
	if diff := cmp.Diff(want, here.Merged(local()).Builds); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff(ngc(), ngc().Merged(local())); diff != "" {
		t.Errorf("images of NVIDIA's:\n%s", diff)
	}
}

// Whatever Parse takes, it writes again and reads as the same; whatever it refuses is the user's to mend.
func FuzzParse(f *testing.F) {
	f.Add(ngc().Text())
	f.Add(local().Text())
	f.Add([]byte("version 1\nsource ngc\nsource local\n"))
	f.Add([]byte("version 1\r\nimage base linux/amd64 sha256:0\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := lock.Parse("x.lock", text)
		if err != nil {
			if fault, ok := errors.AsType[*pipeline.Fault](err); !ok || fault.Kind != pipeline.Usage || fault.Hint == "" {
				t.Fatalf("%v is no usage fault with a hint", err)
			}
			return
		}
		again, err := lock.Parse("x.lock", l.Text())
		if err != nil {
			t.Fatalf("it does not read what it wrote: %v\n%s", err, l.Text())
		}
		if diff := cmp.Diff(l, again); diff != "" {
			t.Fatalf("-read +written and read again:\n%s", diff)
		}
		if changes := append(lock.Diff(l, again), lock.Compare(l, again)...); len(changes) > 0 {
			t.Fatalf("it differs from itself: %v", changes)
		}
	})
}
