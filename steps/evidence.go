package steps

import (
	"context"
	"os"
	"path"
	"path/filepath"

	"github.com/dalirun/dalirun/internal/record"
	"github.com/dalirun/dalirun/triton"
)

// Evidence keeps what steps found for whoever asks later why a run came to what it did. Names are slash paths of
// package record.
type Evidence interface {
	AddText(name string, content []byte)
	AddJSON(name string, value any)
	AddBytes(name string, content []byte)
}

// noEvidence keeps nothing.
type noEvidence struct{}

func (noEvidence) AddText(string, []byte)  {}
func (noEvidence) AddJSON(string, any)     {}
func (noEvidence) AddBytes(string, []byte) {}

// evidence is where the steps of a run keep what they find.
func (t Tools) evidence() Evidence {
	if t.Evidence == nil {
		return noEvidence{}
	}
	return t.Evidence
}

// KeepConfigurations keeps the configuration of each model in a model repository. One that cannot be read is not there
// for the server either, which says so.
func KeepConfigurations(tools Tools, repository string) {
	keepConfigurations(tools.evidence(), repository)
}

func keepConfigurations(to Evidence, repository string) {
	found, _ := filepath.Glob(filepath.Join(repository, "*", configFile)) // the pattern is well formed
	for _, file := range found {
		if text, err := os.ReadFile(file); err == nil {
			to.AddText(path.Join(record.ConfigsFolder, filepath.Base(filepath.Dir(file)), configFile), text)
		}
	}
}

// KeepStatistics keeps what the server in a container says of its models. It takes two seconds at most.
func KeepStatistics(ctx context.Context, tools Tools, id string) {
	if tools.Evidence == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, indexWithin)
	defer cancel()
	server, err := tools.Runner.Open(ctx, id)
	if err != nil {
		return // it has ended, and its log says why
	}
	if client, err := triton.DialIn(server); err == nil {
		keepStatistics(ctx, tools.evidence(), client)
		_ = client.Close() // nothing is in flight
	}
}

// keepStatistics keeps what the server says of its models. It is no reason for a run to fail.
func keepStatistics(ctx context.Context, to Evidence, client *triton.Client) {
	if to == (noEvidence{}) {
		return // nobody is to be asked for it
	}
	ctx, cancel := context.WithTimeout(ctx, indexWithin)
	defer cancel()
	if all, err := client.Statistics(ctx, ""); err == nil {
		to.AddJSON(record.StatisticsFile, all)
	}
}

// keepTensors keeps what was compared, so that it can be compared again.
func keepTensors(to Evidence, served answers, tensor, logits []float32) {
	for name, values := range map[string][]float32{
		record.ServedTensor: served.tensor, record.ServedLogits: served.logits, record.ServedAnswer: served.ensemble,
		record.ReferenceTensor: tensor, record.ReferenceLogits: logits,
	} {
		to.AddBytes(name, record.EncodeFloats(values))
	}
}

// readFloats reads little-endian FP32.
func readFloats(name string) ([]float32, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return record.DecodeFloats(name, data)
}
