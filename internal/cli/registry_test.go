package cli

import (
	"math"
	"net/http"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dalirun/dalirun/internal/registry/registrytest"
)

// startRegistry starts a registry with both images of release 25.03 and tells its address as REGISTRY. What it does instead of
// giving them out can be named.
func startRegistry(ts *testscript.TestScript, neg bool, args []string) {
	const usage = "registry [401|403|404|429|500|hang|private|huge|mixed|any]"
	arguments(ts, neg, args, 0, 1, usage)
	s := registrytest.New(of(ts).tb)
	s.PushNGC(of(ts).tb)
	of(ts).images = s
	ts.Setenv("REGISTRY", s.Host())
	if len(args) == 0 {
		return
	}
	if code, ok := map[string]int{
		"401": http.StatusUnauthorized, "403": http.StatusForbidden, "404": http.StatusNotFound, "429": http.StatusTooManyRequests,
		"500": http.StatusInternalServerError,
	}[args[0]]; ok {
		s.Status(code)
		return
	}
	switch args[0] {
	case "hang":
		s.Hang()
	case "private": // to one user
		s.Token("$oauthtoken")
	case "huge": // more than any disk
		s.Push(of(ts).tb, "nvidia/tritonserver:25.03-py3", registrytest.Image{Arch: "amd64", Layers: []int64{math.MaxInt64 / 8}})
	case "mixed": // 21.07 builds in the PyTorch image
		s.Push(of(ts).tb, "nvidia/pytorch:21.07-py3", registrytest.Pytorch("amd64", "21.07", "8.0.1.6", "11.4.0.031", "1.3.0"))
		s.Push(of(ts).tb, "nvidia/tritonserver:21.07-py3", registrytest.Tritonserver("amd64", "21.07", "2.12.0", "8.0.3.4", "11.4.0.031", ""))
	case "any": // images of no release
		s.Push(of(ts).tb, "team/serving:prod-7", registrytest.Image{Arch: "amd64", Env: []string{"TRT_VERSION=10.6.0.26", "CUDA_VERSION=12.6.3.004", "DALI_VERSION=2.4.0"}, Layers: []int64{5e9}})
		s.Push(of(ts).tb, "team/train:prod-7", registrytest.Image{Arch: "amd64", Env: []string{"TRT_VERSION=10.7.0.1"}, Layers: []int64{6e9}})
	default:
		ts.Fatalf("usage: %s", usage)
	}
}

// server2503 is the server image of the registry's release.
const server2503 = "nvidia/tritonserver:25.03-py3"

// moveTag lets the tag of the server image stand for another image, for amd64 alone.
func moveTag(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 0, 0, "movetag")
	of(ts).images.Push(of(ts).tb, server2503, registrytest.Tritonserver("amd64", "25.03", "2.56.1", "10.9.0.99", "12.8.1.012", "1.44.0"))
}

// deleteImage deletes what the tag of the server image stands for: its owner cleans up.
func deleteImage(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 0, 0, "delete")
	s := of(ts)
	s.images.Delete(s.tb, "nvidia/tritonserver", "manifests", s.images.Digest(s.tb, server2503))
}
