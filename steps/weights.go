package steps

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/dalirun/dalirun/internal/bounded"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/pipeline"
)

// weightsFile is the output of every weights step: a PyTorch state dict of the network.
const weightsFile = "weights.pth"

func newWeights(t target.Target, tools Tools, exporter pipeline.Output) pipeline.Step {
	switch t.Weights.Kind {
	case target.Random:
		return &SeededWeights{
			seed: t.Weights.Seed, model: append(networkArguments(t.Recipe), normalizationArguments(t.Recipe.Input)...),
			image: exporter, containers: newContainers(tools),
		}
	case target.File:
		return &FileWeights{path: t.Weights.Path, kv: tools.KV}
	default:
		return NewPretrainedWeights(tools.Fetcher, t.Weights.Remote)
	}
}

// weightsOutputs returns the outputs of every weights step.
func weightsOutputs() []pipeline.Output {
	return []pipeline.Output{{Step: IDWeights, Name: weightsFile}}
}

// PretrainedWeights downloads the recipe's weights.
type PretrainedWeights struct {
	url    string
	sha256 string

	bytes   int64   `fact:"-"`
	fetcher Fetcher `fact:"-"`
}

// NewPretrainedWeights returns the step on its own, with which a store can be asked for its result.
func NewPretrainedWeights(fetcher Fetcher, remote target.Remote) *PretrainedWeights {
	return &PretrainedWeights{url: remote.URL, sha256: remote.SHA256, bytes: remote.Bytes, fetcher: fetcher}
}

// ID returns weights.
func (s *PretrainedWeights) ID() pipeline.ID { return IDWeights }

// Inputs are none.
func (s *PretrainedWeights) Inputs() []pipeline.Output { return nil }

// Outputs are the weights.
func (s *PretrainedWeights) Outputs() []pipeline.Output { return weightsOutputs() }

// Facts are the weights' URL and hash.
func (s *PretrainedWeights) Facts(context.Context, pipeline.Inputs) (pipeline.Facts, error) {
	return pipeline.Facts{"url": s.url, "sha256": s.sha256}, nil
}

// Run downloads the weights and checks their size and hash.
func (s *PretrainedWeights) Run(ctx context.Context, w *pipeline.Work) error {
	const limit = 30 * time.Minute // 98 MB
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no end within %s", limit))
	defer cancel()
	file := w.Path(weightsFile)
	source, err := s.fetcher.Fetch(ctx, s.url, file, s.bytes, func(current, total int64) {
		w.Emit(pipeline.Progress{Text: "downloading", Current: current, Total: total, Unit: "B"})
	})
	if err != nil {
		hint := "check the network or proxy; or use --weights FILE.pth with a copy of " + s.url +
			", or --weights auto for seeded ones"
		return pipeline.Faultf(pipeline.Environment, hint, "download the pretrained weights: %w", inTime(ctx, err))
	}
	size, sum, err := fileSum(ctx, file)
	if err != nil {
		return err
	}
	if size != s.bytes || sum != s.sha256 {
		return pipeline.Faultf(pipeline.Environment,
			"run again; if it stays so, something between here and the server alters downloads",
			"download the pretrained weights: %d bytes with the SHA-256 %s came from %s; expected were %d bytes with "+
				"the SHA-256 %s",
			size, sum, source, s.bytes, s.sha256)
	}
	return nil
}

// ErrNoCheckpoint is the error for a file that PyTorch cannot read as weights, whatever it contains.
var ErrNoCheckpoint = errors.New("it is no PyTorch checkpoint")

// CheckCheckpoint checks the first bytes of a file. torch.save writes a ZIP archive since PyTorch 1.6, and wrote a
// pickle before. Of pickles, torch.load reads tensors alone from those of protocol 2, which is torch.save's own, and
// later; these begin with their protocol. All else is checked when PyTorch reads the file. The error is
// ErrNoCheckpoint, or that of reading the file.
func CheckCheckpoint(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	head := make([]byte, 4)
	n, err := io.ReadFull(f, head)
	switch {
	case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return err
	case n == 4 && string(head) == "PK\x03\x04", n >= 2 && head[0] == 0x80 && head[1] >= 2:
		return nil
	default:
		return ErrNoCheckpoint
	}
}

// FileWeights takes a user's state dict.
type FileWeights struct {
	path string // its content is a fact, and not its name

	kv KV `fact:"-"`
}

// ID returns weights.
func (s *FileWeights) ID() pipeline.ID { return IDWeights }

// Inputs are none.
func (s *FileWeights) Inputs() []pipeline.Output { return nil }

// Outputs are the weights.
func (s *FileWeights) Outputs() []pipeline.Output { return weightsOutputs() }

// Facts are the file's content. It is hashed again only if its size or time changed.
func (s *FileWeights) Facts(ctx context.Context, _ pipeline.Inputs) (pipeline.Facts, error) {
	sum, err := weightsSum(ctx, s.path, s.kv)
	if err != nil {
		return nil, err
	}
	return pipeline.Facts{"sha256": sum}, nil
}

// weightsSum returns the SHA-256 of a user's file, in hexadecimal.
func weightsSum(ctx context.Context, path string, kv KV) (string, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() { // to open a pipe could wait for ever
		err = fmt.Errorf("%s is not a file", path)
	}
	if err != nil {
		return "", weightsFault("read", err)
	}
	key := fmt.Sprintf("content of %q %d %d", path, info.Size(), info.ModTime().UnixNano())
	if sum, ok := kv.Recall(key); ok {
		return sum, nil
	}
	_, sum, err := fileSum(ctx, path)
	if err != nil {
		return "", weightsFault("read", err)
	}
	return sum, kv.Remember(key, sum)
}

// Run copies the file, so that it cannot change between the export and the reference.
func (s *FileWeights) Run(ctx context.Context, w *pipeline.Work) error {
	if err := copyFile(ctx, s.path, w.Path(weightsFile)); err != nil {
		return weightsFault("copy", err)
	}
	return nil
}

// weightsFault is the fault of a user's file that could not be read or copied. It was there when the flag was read, so
// that it is the environment's.
func weightsFault(action string, err error) error {
	hint := pipeline.HintOf(userfile.ReadFault(err,
		"--weights takes pretrained, auto, random:SEED or the path of a PyTorch state dict of the model"))
	return pipeline.Faultf(pipeline.Environment, hint, "%s the weights: %w", action, err)
}

// SeededWeights makes seeded random weights and calibrates their batch-norm statistics. Without the calibration every
// picture gets the same answer, and a comparison of answers cannot fail.
type SeededWeights struct {
	seed  int64
	model []string // arguments by which the program knows it
	image pipeline.Output

	containers containers `fact:"-"`
}

// ID returns weights.
func (s *SeededWeights) ID() pipeline.ID { return IDWeights }

// Inputs are the exporter image.
func (s *SeededWeights) Inputs() []pipeline.Output { return []pipeline.Output{s.image} }

// Outputs are the weights.
func (s *SeededWeights) Outputs() []pipeline.Output { return weightsOutputs() }

func (s *SeededWeights) command() []string {
	return seedScript().command(slices.Concat(s.model,
		[]string{"--seed", strconv.FormatInt(s.seed, 10), "--output", outDir + "/" + weightsFile})...)
}

// Facts are the seed and the program.
func (s *SeededWeights) Facts(context.Context, pipeline.Inputs) (pipeline.Facts, error) {
	return seedScript().facts(s.command())
}

// Run makes the weights in the exporter image.
func (s *SeededWeights) Run(ctx context.Context, w *pipeline.Work) error {
	spec := s.containers.spec(IDWeights, w.Input(s.image).Ref, s.command()...)
	return s.containers.runScript(ctx, w, seedScript(), spec, 15*time.Minute)
}

func copyFile(ctx context.Context, from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, bounded.Reader(ctx, in))
	return err
}

// fileSum returns the size of a file and the SHA-256 of its content, in hexadecimal.
func fileSum(ctx context.Context, name string) (size int64, sum string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, "", err
	}
	defer f.Close() //nolint:errcheck // it was only read
	h := sha256.New()
	size, err = io.Copy(h, bounded.Reader(ctx, f))
	return size, hex.EncodeToString(h.Sum(nil)), err
}

func seedScript() script { return script{"seed_weights.py", "program.py", "network.py"} }
