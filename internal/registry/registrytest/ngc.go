package registrytest

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
)

// base is what both NGC images of a release stand on: Ubuntu, CUDA, and TensorRT, 4.1 GB.
func base() []int64 {
	return []int64{
		29_720_000, 4_310, 186_000_000, 92_100, 1_204_000_000, 65_000, 388_000_000, 7_240, 1_410_000_000, 880_000_000,
		9_800,
	}
}

// Tritonserver is an image like NVIDIA's of a release: 20 layers, 9.2 GB, and the variables that something depends on.
func Tritonserver(arch, release, triton, tensorRT, cuda, dali string) Image {
	return Image{
		Arch: arch,
		Layers: slices.Concat(base(), []int64{
			410_000_000, 5_210, 1_890_000_000, 12_300, 2_106_000_000, 77_000, 690_000_000, 3_100, 990,
		}),
		Env: slices.Concat(environment(tensorRT, cuda), []string{
			"TRITON_SERVER_VERSION=" + triton, "NVIDIA_TRITON_SERVER_VERSION=" + release,
			"NVIDIA_PRODUCT_NAME=Triton Server", "DALI_VERSION=" + dali,
		}),
	}
}

// Pytorch is an image like NVIDIA's of a release: 20 layers, 10.9 GB.
func Pytorch(arch, release, tensorRT, cuda, dali string) Image {
	return Image{
		Arch: arch,
		Layers: slices.Concat(base(), []int64{
			512_000_000, 6_020, 3_050_000_000, 15_600, 2_730_000_000, 81_000, 440_000_000, 2_700, 1_100,
		}),
		Env: slices.Concat(environment(tensorRT, cuda), []string{
			"NVIDIA_PYTORCH_VERSION=" + release, "NVIDIA_PRODUCT_NAME=PyTorch", "DALI_VERSION=" + dali,
		}),
	}
}

// environment is what NGC images of both kinds say.
func environment(tensorRT, cuda string) []string {
	return []string{
		"PATH=/usr/local/nvidia/bin:/usr/local/cuda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"CUDA_VERSION=" + cuda, "CUDA_DRIVER_VERSION=570.124.06", "NVIDIA_REQUIRE_CUDA=cuda>=9.0",
		"NVIDIA_DRIVER_CAPABILITIES=compute,utility,video",
		"TRT_VERSION=" + tensorRT, "CUDA_ARCH_LIST=7.5 8.0 8.6 9.0 10.0 12.0 ", "_CUDA_COMPAT_PATH=/usr/local/cuda/compat",
	}
}

// PushNGC adds both images of release 25.03, each an index for amd64 and arm64.
func (s *Server) PushNGC(tb testing.TB) {
	tb.Helper()
	const release, tensorRT, cuda, dali = "25.03", "10.9.0.34", "12.8.1.012", "1.44.0"
	archs := []string{"amd64", "arm64"}
	var servers, exporters []Image
	for _, arch := range archs {
		servers = append(servers, Tritonserver(arch, release, "2.56.0", tensorRT, cuda, dali))
		exporters = append(exporters, Pytorch(arch, release, tensorRT, cuda, dali))
	}
	s.Push(tb, "nvidia/tritonserver:"+release+"-py3", servers...)
	s.Push(tb, "nvidia/pytorch:"+release+"-py3", exporters...)
}

// Token lets the registry ask for a token that is had at /proxy_auth, as nvcr.io does. Without credentials anybody gets
// one; login, if it is set, is the user that alone gets one.
func (s *Server) Token(login string) {
	s.Answer(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/proxy_auth":
			if user, _, _ := r.BasicAuth(); user != login {
				http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"Authentication required"}]}`, http.StatusUnauthorized)
				return
			}
			fmt.Fprint(w, `{"token":"of anybody"}`)
		case r.Header.Get("Authorization") == "":
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/proxy_auth",service=%q`, s.host, s.host))
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"Unauthorized"}]}`, http.StatusUnauthorized)
		default:
			s.Registry(w, r)
		}
	})
}

// Status lets the registry answer everything but its greeting with a status, as registries do that know who asks.
func (s *Server) Status(code int) {
	names := map[int]string{
		http.StatusUnauthorized: "UNAUTHORIZED", http.StatusForbidden: "DENIED", http.StatusNotFound: "MANIFEST_UNKNOWN",
		http.StatusTooManyRequests: "TOOMANYREQUESTS",
	}
	s.Answer(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		if name := names[code]; name != "" {
			fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"words of the registry"}]}`, name)
		}
	})
}

// Hang lets the registry never answer.
func (s *Server) Hang() {
	s.Answer(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
}
