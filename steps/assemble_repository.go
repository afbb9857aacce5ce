package steps

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/trtexec"
	"github.com/dalirun/dalirun/pipeline"
)

// AssembleRepository lays the models out as Triton's model repository.
type AssembleRepository struct {
	model         pipeline.Output // model.plan or model.onnx
	dali          pipeline.Output
	engine        pipeline.Output // engine.json, in the gpu lane
	labels        []byte          // of the classes, a line each
	configuration configuration
}

func newAssembleRepository(t target.Target, model, dali, engine pipeline.Output) *AssembleRepository {
	return &AssembleRepository{
		model: model, dali: dali, engine: engine, labels: t.Recipe.LabelText, configuration: newConfiguration(t),
	}
}

const (
	repositoryDir = "model_repository"
	labelsFile    = "labels.txt"
	// versionDir is the version directory of every model. An ensemble's is empty, and mandatory.
	versionDir = "1"
)

// Assembled returns the model repository that a run made, by the values of its last step, which is assemble-repository.
func Assembled(values pipeline.Values) string { return values[repositoryDir].Path }

// ID returns assemble-repository.
func (s *AssembleRepository) ID() pipeline.ID { return IDAssembleRepository }

// Inputs are the served model and the serialized DALI pipeline, and in the gpu lane engine.json, which describes the
// engine.
func (s *AssembleRepository) Inputs() []pipeline.Output {
	if s.configuration.lane == target.GPU {
		return []pipeline.Output{s.model, s.dali, s.engine}
	}
	return []pipeline.Output{s.model, s.dali}
}

// Outputs are the model repository, a folder.
func (s *AssembleRepository) Outputs() []pipeline.Output {
	return []pipeline.Output{{Step: IDAssembleRepository, Name: repositoryDir}}
}

// texts are the files of the repository that no other step makes, by slash path.
func (s *AssembleRepository) texts() (map[string][]byte, error) {
	files, c := map[string][]byte{}, s.configuration
	for _, m := range models(c.names) {
		config, err := c.text(m)
		if err != nil {
			return nil, err
		}
		files[path.Join(m.name, configFile)] = config
		programs, err := c.backend(m)
		if err != nil {
			return nil, err
		}
		for name, program := range programs {
			files[path.Join(m.name, versionDir, name)] = program
		}
		pictures, err := c.warmupFiles(m)
		if err != nil {
			return nil, err
		}
		for name, picture := range pictures {
			files[path.Join(m.name, warmupDir, name)] = picture
		}
	}
	files[path.Join(c.names.Classifier, labelsFile)] = s.labels
	return files, nil
}

// Facts are the contents of the configurations, programs and pictures.
func (s *AssembleRepository) Facts(context.Context, pipeline.Inputs) (pipeline.Facts, error) {
	files, err := s.texts()
	if err != nil {
		return nil, err
	}
	facts := pipeline.Facts{}
	for name, text := range files {
		facts[name] = digest(text)
	}
	return facts, nil
}

// checkEngine compares the stored plan, and the configuration that it is served with, with engine.json.
func (s *AssembleRepository) checkEngine(ctx context.Context, w *pipeline.Work, config []byte) error {
	const hint = "--force build-engine builds it anew"
	e, err := trtexec.ReadEngine(w.Input(s.engine).Path)
	if err != nil {
		return err
	}
	bytes, sum, err := fileSum(ctx, w.Input(s.model).Path)
	if err != nil {
		return err
	}
	if bytes != e.Bytes || sum != e.SHA256 {
		return pipeline.Faultf(pipeline.ContainerFailed, hint,
			"the stored engine is not the one that was proven: it has %d bytes and the SHA-256 %s, not %d and %s",
			bytes, sum, e.Bytes, e.SHA256)
	}
	c, err := parseConfiguration(configFile, config)
	if err != nil {
		return err
	}
	if err := checkConfiguration(c, e); err != nil {
		return pipeline.Faultf(pipeline.ContainerFailed, hint, "the configuration of %s does not fit the engine: %w",
			c.GetName(), err)
	}
	return nil
}

// Run writes the repository. The models are hard links to the stored ones where the file system can.
func (s *AssembleRepository) Run(ctx context.Context, w *pipeline.Work) error {
	root, names := w.Path(repositoryDir), s.configuration.names
	for _, m := range models(s.configuration.names) {
		dir := filepath.Join(root, m.name, versionDir)
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // the server's user reads it
			return err
		}
	}
	files, err := s.texts()
	if err == nil && s.configuration.lane == target.GPU {
		err = s.checkEngine(ctx, w, files[path.Join(s.configuration.names.Classifier, configFile)])
	}
	if err != nil {
		return err
	}
	for name, text := range files {
		file := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil { //nolint:gosec // the server's user reads it
			return err
		}
		if err := os.WriteFile(file, text, 0o644); err != nil { //nolint:gosec // the server's user reads it
			return err
		}
	}
	return errors.Join(
		link(ctx, w.Input(s.dali).Path, filepath.Join(root, names.DALI, versionDir, daliFile)),
		link(ctx, w.Input(s.model).Path, filepath.Join(root, names.Classifier, versionDir, s.model.Name)),
	)
}

func link(ctx context.Context, from, to string) error {
	err := os.Link(from, to)
	if err == nil || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return copyFile(ctx, from, to)
}
