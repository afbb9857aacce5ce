package container

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseGPUs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]GPUs{
		"all":                      {Count: AllGPUs},
		"-1":                       {Count: AllGPUs},
		"count=all":                {Count: AllGPUs},
		"2":                        {Count: 2},
		"count=2":                  {Count: 2},
		"device=1":                 {Devices: []string{"1"}},
		"device=0,1":               {Devices: []string{"0", "1"}},
		`"device=1,0"`:             {Devices: []string{"1", "0"}},
		"device=0:1":               {Devices: []string{"0:1"}},
		"device=GPU-bbbb2222":      {Devices: []string{"GPU-bbbb2222"}},
		"driver=nvidia,device=0,1": {Devices: []string{"0", "1"}, Driver: "nvidia"},
		"device=1,capabilities=utility": {
			Devices: []string{"1"}, Capabilities: []string{"utility"},
		},
		`"device=nvidia.com/gpu=0,nvidia.com/gpu=1"`: {Devices: []string{"nvidia.com/gpu=0", "nvidia.com/gpu=1"}},
		`1,driver=nvidia,"capabilities=compute,utility","options=foo=bar,baz=qux,flag"`: {
			Count: 1, Driver: "nvidia", Capabilities: []string{"compute", "utility"},
			Options: map[string]string{"foo": "bar", "baz": "qux", "flag": ""},
		},
	} {
		got, err := ParseGPUs(text)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", text, err, diff)
		}
	}
	for _, text := range []string{
		"", "0", "-2", "al", "some", "count=", "device=", "device=0,", "gpu=0", " all", "all\n2", "2,3", "2,count=2", "2,device=0",
		"driver=nvidia", "driver=x,2", "all,driver=", "all,capabilities=compute,utility", "all,options=", "device=0,device=1",
		"device=0,capabilities=utility,1", `"device=0`, "device=nvidia.com/gpu=0,nvidia.com/gpu=1",
	} {
		got, err := ParseGPUs(text)
		if err == nil || !strings.HasSuffix(err.Error(), " is none of all, a count, device=0,1 or device=UUID") {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

// People and dalirun write a list of devices without quotes; Docker's own CLI wants them.
func TestGPUsString(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		gpus      GPUs
		text, csv string
	}{
		"none":         {GPUs{}, "", ""},
		"all":          {GPUs{Count: AllGPUs}, "all", "all"},
		"a count":      {GPUs{Count: 2}, "2", "2"},
		"a device":     {GPUs{Devices: []string{"0"}}, "device=0", "device=0"},
		"devices":      {GPUs{Devices: []string{"0", "1"}}, "device=0,1", `"device=0,1"`},
		"CDI devices":  {GPUs{Devices: []string{"a/b=0", "a/b=1"}}, `"device=a/b=0,a/b=1"`, `"device=a/b=0,a/b=1"`},
		"a capability": {GPUs{Count: 1, Capabilities: []string{"utility"}}, "1,capabilities=utility", "1,capabilities=utility"},
		"several of both": {
			GPUs{Devices: []string{"0", "1"}, Capabilities: []string{"compute", "utility"}},
			`"device=0,1","capabilities=compute,utility"`, `"device=0,1","capabilities=compute,utility"`,
		},
		"a driver": {
			GPUs{Count: AllGPUs, Driver: "x", Options: map[string]string{"b": "2", "a": "1"}}, `all,driver=x,"options=a=1,b=2"`, `all,driver=x,"options=a=1,b=2"`,
		},
	} {
		if text, csv := c.gpus.String(), c.gpus.CSV(); text != c.text || csv != c.csv || c.gpus.IsZero() != (text == "") {
			t.Errorf("%s: %s and %s, zero %t", name, text, csv, c.gpus.IsZero())
		}
	}
}

// In JSON a Spec has the text; none is left out, and read back as none.
func TestGPUsJSON(t *testing.T) {
	t.Parallel()
	for want, spec := range map[string]Spec{
		`"gpus":"device=0,1"`: {GPUs: GPUs{Devices: []string{"0", "1"}}},
		`"init":false,"role"`: {},
	} {
		data, err := json.Marshal(spec)
		if err != nil || !strings.Contains(string(data), want) {
			t.Errorf("%s, %v; want %s", data, err, want)
		}
		var back Spec
		if err := json.Unmarshal(data, &back); err != nil || !cmp.Equal(back.GPUs, spec.GPUs) {
			t.Errorf("%s is read as %+v, %v", data, back.GPUs, err)
		}
	}
	set := GPUs{Count: 1}
	if err := set.UnmarshalText(nil); err != nil || !set.IsZero() {
		t.Errorf("no text is %+v, %v", set, err)
	}
	if err := json.Unmarshal([]byte(`{"gpus":"some"}`), &Spec{}); err == nil || !strings.Contains(err.Error(), `"some" is none of all`) {
		t.Errorf("got %v", err)
	}
}

// What is read has a count or devices, and is read the same when it was written.
func FuzzParseGPUs(f *testing.F) {
	for _, seed := range []string{
		"all", "2", "device=0,1", `"device=0,1"`, "device=GPU-x", "", ",", "count=", "device=0,capabilities=a", `"device=a/b=0,a/b=1"`,
		`all,driver=x,"options=a=1,b"`, `device=0,"options=a=""1"""`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		gpus, err := ParseGPUs(text)
		if err != nil {
			return
		}
		if (gpus.Count == 0) == (len(gpus.Devices) == 0) {
			t.Errorf("%q: neither or both of count %d and devices %q", text, gpus.Count, gpus.Devices)
		}
		for _, written := range []string{gpus.String(), gpus.CSV()} {
			again, err := ParseGPUs(written)
			if diff := cmp.Diff(gpus, again); err != nil || diff != "" {
				t.Errorf("%q, written as %q: %v (-want +got):\n%s", text, written, err, diff)
			}
		}
	})
}
