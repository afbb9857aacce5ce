package bench_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/dalirun/dalirun/internal/bench"
	"github.com/dalirun/dalirun/triton"
	"github.com/dalirun/dalirun/triton/pb"
)

// serveAt has the test binary be a server that answers at once, instead of testing: what is measured of a client must
// not have a server in its process. `go test -c` and `-serve 127.0.0.1:8001` let other clients be measured with it.
var serveAt = flag.String("serve", "", "serve a model that answers at once at this address, and do nothing else")

func TestMain(m *testing.M) {
	flag.Parse()
	if *serveAt != "" {
		serveQuickly(*serveAt)
		return
	}
	os.Exit(m.Run())
}

// quick answers each request with the scores of a thousand classes.
type quick struct {
	pb.UnimplementedGRPCInferenceServiceServer
}

func (quick) ModelInfer(_ context.Context, r *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
	return &pb.ModelInferResponse{
		ModelName: r.GetModelName(), ModelVersion: "1",
		Outputs:           []*pb.ModelInferResponse_InferOutputTensor{{Name: "OUTPUT", Datatype: "FP32", Shape: []int64{1, 1000}}},
		RawOutputContents: [][]byte{make([]byte, 4000)},
	}, nil
}

func (quick) ModelMetadata(context.Context, *pb.ModelMetadataRequest) (*pb.ModelMetadataResponse, error) {
	return &pb.ModelMetadataResponse{Inputs: []*pb.ModelMetadataResponse_TensorMetadata{
		{Name: "INPUT", Datatype: "UINT8", Shape: []int64{-1, -1}},
	}}, nil
}

func serveQuickly(addr string) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		fmt.Println("listen:", err)
		return
	}
	fmt.Println("listening at", listener.Addr())
	server := grpc.NewServer(grpc.MaxRecvMsgSize(math.MaxInt32))
	pb.RegisterGRPCInferenceServiceServer(server, quick{})
	fmt.Println("served:", server.Serve(listener))
}

// BenchmarkClient tells what a request of one picture costs the client, with a server in another process.
func BenchmarkClient(b *testing.B) {
	for _, size := range []int{1_000, 41_500, 400_000} {
		b.Run(fmt.Sprintf("%d bytes", size), func(b *testing.B) {
			server := exec.CommandContext(b.Context(), os.Args[0], "-serve", "127.0.0.1:0")
			out, err := server.StdoutPipe()
			if err != nil {
				b.Fatal(err)
			}
			if err := server.Start(); err != nil {
				b.Fatal(err)
			}
			defer func() { _, _ = server.Process.Kill(), server.Wait() }()
			line, err := bufio.NewReader(out).ReadString('\n')
			addr, ok := strings.CutPrefix(strings.TrimSpace(line), "listening at ")
			if err != nil || !ok {
				b.Fatalf("the server says %q: %v", line, err)
			}
			client, err := triton.Dial(addr, bench.DialOptions()...)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = client.Close() }()
			pictures, err := bench.NewPictures(b.Context(), []*triton.Client{client}, "ensemble", [][]byte{make([]byte, size)}, 1)
			if err != nil {
				b.Fatal(err)
			}
			load := closedLoad(16, 2*time.Second)
			load.Warmup = bench.Warmup{Requests: 1000, Batch: 1, Concurrency: 16}
			for b.Loop() {
				m, err := bench.Bench{Requester: pictures}.Run(b.Context(), load)
				if err != nil || m.Failed > 0 {
					b.Fatalf("%d failed: %v", m.Failed, err)
				}
				b.ReportMetric(1e6*m.Client.CPUPerRequestSeconds, "cpu-µs/request")
				b.ReportMetric(m.AchievedRate, "requests/s")
			}
		})
	}
}
