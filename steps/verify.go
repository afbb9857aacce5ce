package steps

import (
	"context"
	"fmt"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/parity"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/result"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/triton"
)

// Verify compares what is served with PyTorch on one picture: DALI's tensor, the model's logits for PyTorch's tensor,
// and the ensemble's answer to the encoded picture.
//
// It runs each time, and its result is not stored: it has no facts but its inputs.
type Verify struct {
	server pipeline.Output
	tensor pipeline.Output
	logits pipeline.Output

	runner    container.Runner  `fact:"-"`
	names     verified          `fact:"-"`
	size      int64             `fact:"-"` // of each side of the network's input, in pixels
	precision release.Precision `fact:"-"`
	picture   []byte            `fact:"-"`
	evidence  Evidence          `fact:"-"`
}

// verified are the names of the models that are compared.
type verified struct{ dali, classifier, ensemble string }

// newVerify returns the step for the models of a target, whose names end with suffix.
func newVerify(t target.Target, tools Tools, suffix string, server, tensor, logits pipeline.Output) *Verify {
	names := t.Names()
	return &Verify{
		server: server, tensor: tensor, logits: logits, runner: tools.Runner,
		names:     verified{names.DALI + suffix, names.Classifier + suffix, names.Ensemble + suffix},
		size:      int64(t.Recipe.Input.Size),
		precision: t.Precision, picture: t.Picture.Data, evidence: tools.evidence(),
	}
}

const (
	// topClasses is how many classes are shown.
	topClasses  = 5
	proofOutput = "proof"
	// inferLimit bounds one inference; a CPU takes 40 ms.
	inferLimit = 30 * time.Second
)

// Proven returns the container of the server that a run verified, by the values of its last step, which is verify.
func Proven(values pipeline.Values) string { return values[proofOutput].Digest }

// ID returns verify.
func (s *Verify) ID() pipeline.ID { return IDVerify }

// Inputs are the server, and PyTorch's tensor and logits.
func (s *Verify) Inputs() []pipeline.Output {
	return []pipeline.Output{s.server, s.tensor, s.logits}
}

// Outputs are the proof: Digest is the server's container.
func (s *Verify) Outputs() []pipeline.Output {
	return []pipeline.Output{{Step: IDVerify, Name: proofOutput}}
}

// Run compares the answers. A comparison that is out of bounds is a NotVerified fault that names it.
func (s *Verify) Run(ctx context.Context, w *pipeline.Work) error {
	tensor, err := readFloats(w.Input(s.tensor).Path)
	if err != nil {
		return err
	}
	logits, err := readFloats(w.Input(s.logits).Path)
	if err != nil {
		return err
	}
	server, err := s.runner.Open(ctx, w.Input(s.server).Digest)
	if err != nil {
		return err
	}
	client, err := triton.DialIn(server)
	if err != nil {
		return err
	}
	defer client.Close() //nolint:errcheck // nothing is in flight: an idle connection would only delay the server's stop
	served, err := s.infer(ctx, client, tensor)
	if err != nil {
		return &pipeline.Fault{
			Kind: pipeline.NotReady, Err: err,
			Hint: "read the server's log: a model can fail after it was ready",
		}
	}
	keepStatistics(ctx, s.evidence, client)
	report, err := compare(served, tensor, logits, s.precision)
	if err != nil { // such as an answer of another size
		keepTensors(s.evidence, served, tensor, logits)
		return &pipeline.Fault{Kind: pipeline.NotVerified, Err: err}
	}
	w.Emit(result.Parity.New(report))
	w.Emit(result.Top.New(served.top))
	if err := report.Err(); err != nil {
		keepTensors(s.evidence, served, tensor, logits)
		return &pipeline.Fault{
			Kind: pipeline.NotVerified, Err: err,
			Hint: "preprocessing off: compare the DALI pipeline with the model's training; model off: rebuild with " +
				"--force; only the ensemble off: its config.pbtxt",
		}
	}
	w.Set(proofOutput, pipeline.Value{Digest: w.Input(s.server).Digest})
	return nil
}

// answers are the server's, to the requests that Verify compares.
type answers struct {
	tensor   []float32      // of the DALI model, for the picture
	logits   []float32      // of the classifier, for the reference tensor
	ensemble []float32      // of the ensemble, for the picture
	top      []result.Class // of the ensemble, for the picture, the best first
}

func (s *Verify) infer(ctx context.Context, client *triton.Client, reference []float32) (answers, error) {
	picture, err := triton.NewUint8(daliInput, s.picture, 1, int64(len(s.picture)))
	if err != nil {
		return answers{}, err
	}
	input, err := triton.NewFloat32(modelInput, reference, 1, 3, s.size, s.size)
	if err != nil {
		return answers{}, err
	}
	var a answers
	if a.tensor, err = inferOne(ctx, client, s.names.dali, picture, "DALI_OUTPUT_0"); err != nil {
		return a, err
	}
	if a.logits, err = inferOne(ctx, client, s.names.classifier, input, "output"); err != nil {
		return a, err
	}
	picture.Name = "INPUT"
	if a.ensemble, err = inferOne(ctx, client, s.names.ensemble, picture, "OUTPUT"); err != nil {
		return a, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, inferLimit,
		fmt.Errorf("%s did not answer within %s", s.names.ensemble, inferLimit))
	defer cancel()
	all, err := client.Classify(ctx, s.names.ensemble, s.picture, triton.EveryClass)
	a.top = result.Classes(triton.Score(all)[:min(topClasses, len(all))])
	return a, inTime(ctx, err)
}

func inferOne(
	ctx context.Context, client *triton.Client, model string, input triton.Tensor, output string,
) ([]float32, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, inferLimit,
		fmt.Errorf("%s did not answer within %s", model, inferLimit))
	defer cancel()
	answer, err := client.Infer(ctx, triton.InferRequest{
		Model: model, Inputs: []triton.Tensor{input}, Outputs: []triton.RequestedOutput{{Name: output}},
	})
	if err != nil {
		return nil, inTime(ctx, err)
	}
	t, err := answer.Output(output)
	if err != nil {
		return nil, err
	}
	return t.Float32s()
}

// inTime returns err, or the cause of ctx if ctx ended.
func inTime(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// compare compares the served answers with PyTorch's.
func compare(served answers, tensor, logits []float32, precision release.Precision) (parity.Report, error) {
	return parity.CheckAll(parity.Answers{
		Tensor: served.tensor, Logits: served.logits, Ensemble: served.ensemble,
		WantTensor: tensor, WantLogits: logits,
	}, precision)
}
