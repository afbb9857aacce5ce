package steps_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"os"
	"path"
	"regexp"
	"strings"

	"github.com/dalirun/dalirun"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/triton"
)

// main is the entrypoint of every fake image. It knows the programs that the real images hold by their command, and what
// each reads and writes by its arguments.
func (w *world) main(ctx context.Context, spec container.Spec, out container.Streams) int {
	w.mu.Lock()
	instead := w.programs[pipeline.ID(spec.Step)]
	w.mu.Unlock()
	if instead != nil {
		return instead(ctx, spec, out)
	}
	switch spec.Command[0] {
	case "tritonserver":
		return w.tritonserver(ctx, spec, out)
	case "cat":
		w.mu.Lock()
		defer w.mu.Unlock()
		fmt.Fprint(out.Stdout, w.packages)
		return 0
	case "sh":
		return w.trtexec(fakeBuild{})(ctx, spec, out)
	default:
		return batch(spec, out, python)
	}
}

// instead makes a step's container run another program.
func (w *world) instead(id pipeline.ID, p containertest.Program) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.programs[id] = p
}

// prints is a program that prints lines to stderr and ends with code.
func prints(code int, lines ...string) containertest.Program {
	return func(_ context.Context, _ container.Spec, out container.Streams) int {
		for _, line := range lines {
			fmt.Fprintln(out.Stderr, line)
		}
		return code
	}
}

// hangs is a program that ends by SIGKILL alone, and tells begun when it begins.
func hangs(begun chan<- struct{}) containertest.Program {
	return func(ctx context.Context, _ container.Spec, _ container.Streams) int {
		close(begun)
		<-ctx.Done()
		return 137
	}
}

// batch runs a program whose error is the last line.
func batch(spec container.Spec, out container.Streams, program func(inside) error) int {
	if err := program(inside(spec)); err != nil {
		fmt.Fprintf(out.Stderr, "error: %v\n", err)
		return 2
	}
	fmt.Fprintln(out.Stdout, `{"ok": true}`)
	return 0
}

// inside is what a program sees.
type inside container.Spec

func (in inside) read(name string) (string, error) {
	host, _, err := containertest.HostPath(container.Spec(in), name)
	if err != nil {
		return "", err
	}
	data, err := os.ReadFile(host)
	return string(data), err
}

func (in inside) write(name, content string) error {
	host, writable, err := containertest.HostPath(container.Spec(in), name)
	if err != nil {
		return err
	}
	if !writable {
		return fmt.Errorf("write %s: read-only file system", name)
	}
	return os.WriteFile(host, []byte(content), 0o600)
}

// arg is the value of "--name value" or "--name=value".
func (in inside) arg(name string) string {
	for i, a := range in.Command {
		if value, ok := strings.CutPrefix(a, name+"="); ok {
			return value
		}
		if a == name && i+1 < len(in.Command) {
			return in.Command[i+1]
		}
	}
	return ""
}

// python runs the embedded programs. Each output holds what it was made from, so that a change goes as far as it should.
func python(in inside) error {
	if err := in.imports(in.Command[1]); err != nil {
		return err
	}
	weights, err := "", error(nil)
	if name := in.arg("--weights"); name != "" {
		if weights, err = in.read(name); err != nil {
			return err
		}
	}
	switch name := path.Base(in.Command[1]); name {
	case "seed_weights.py":
		return in.write(in.arg("--output"), "weights "+in.arg("--seed"))
	case "export_onnx.py":
		return in.write(in.arg("--output"), padded("onnx of "+weights, false))
	case "cast_onnx.py":
		onnx, err := in.read(in.arg("--model"))
		if err != nil {
			return err
		}
		return in.write(in.arg("--output"), padded("cast "+strings.TrimRight(onnx, " -"), true))
	case "serialize_dali.py":
		return in.write(in.arg("--output"), "dali "+strings.Join(in.Command[2:], " "))
	case "reference.py":
		picture, err := in.read(in.arg("--image"))
		if err != nil {
			return err
		}
		tensor := cached([]byte(picture))
		for file, values := range map[string][]float32{"tensor.f32": tensor, "logits.f32": network(0, tensor)} {
			if err := in.write(path.Join(in.arg("--output-dir"), file), floats(values)); err != nil {
				return err
			}
		}
		return nil
	default:
		return fmt.Errorf("there is no program %s", name)
	}
}

// imports looks for a program and for those of the embedded modules that it imports.
func (in inside) imports(name string) error {
	text, err := in.read(name)
	if err != nil {
		return fmt.Errorf("can't open file %q: %w", name, err)
	}
	for _, module := range regexp.MustCompile(`(?m)^ *(?:import|from) (\w+)`).FindAllStringSubmatch(text, -1) {
		if _, err := fs.Stat(dalirun.Assets, "assets/python/"+module[1]+".py"); err != nil {
			continue // Python's own, or a package
		}
		if err := in.imports(path.Join(path.Dir(name), module[1]+".py")); err != nil {
			return err
		}
	}
	return nil
}

// tritonserver is the main process of the server's container: what arrives at its gRPC port goes to a Triton server in
// this process.
func (w *world) tritonserver(ctx context.Context, spec container.Spec, out container.Streams) int {
	repository := inside(spec).arg("--model-repository")
	if _, err := inside(spec).read(path.Join(repository, "ensemble_dali_resnet50", "config.pbtxt")); err != nil {
		fmt.Fprintln(out.Stderr, "no model repository:", err)
		return 1
	}
	return w.relay(ctx, w.triton().Addr())
}

// relay carries the bytes of the gRPC port to addr until the container is stopped.
func (w *world) relay(ctx context.Context, addr string) int {
	listener, err := containertest.Listen(ctx, triton.PortGRPC)
	if err != nil {
		return 1
	}
	terminated := containertest.Terminated(ctx)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // the container has ended
			}
			go carry(ctx, conn, addr)
		}
	}()
	end, code := "killed", 137
	select {
	case <-terminated:
		end, code = "drained", 0
	case <-ctx.Done():
	}
	w.ends <- end
	return code
}

func carry(ctx context.Context, from net.Conn, addr string) {
	to, err := net.Dial("tcp", addr)
	if err != nil {
		_ = from.Close() // the peer sees that nobody is there
		return
	}
	stop := context.AfterFunc(ctx, func() { _, _ = from.Close(), to.Close() })
	defer stop()
	go func() {
		_, _ = io.Copy(to, from)
		_ = to.Close()
	}()
	_, _ = io.Copy(from, to)
	_ = from.Close()
}

// floats are little-endian FP32.
func floats(values []float32) string {
	var out []byte
	for _, v := range values {
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(v))
	}
	return string(out)
}

func sum(text string) string {
	s := sha256.Sum256([]byte(text))
	return "sha256:" + hex.EncodeToString(s[:])
}
