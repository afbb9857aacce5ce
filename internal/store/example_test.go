package store_test

import (
	"context"
	"fmt"
	"os"

	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/pipeline"
)

// Greet is a Builder: its file is kept and reused for as long as its facts stay the same.
type Greet struct{ Name string }

func (*Greet) ID() pipeline.ID           { return "greet" }
func (*Greet) Inputs() []pipeline.Output { return nil }
func (*Greet) Outputs() []pipeline.Output {
	return []pipeline.Output{{Step: "greet", Name: "greeting.txt"}}
}

func (g *Greet) Facts(context.Context, pipeline.Inputs) (pipeline.Facts, error) {
	return pipeline.Facts{"name": g.Name}, nil
}

func (g *Greet) Run(_ context.Context, w *pipeline.Work) error {
	return os.WriteFile(w.Path("greeting.txt"), []byte("hello, "+g.Name), 0o600)
}

// Show is a Step without a result: it always runs.
type Show struct{ greeting pipeline.Output }

func (*Show) ID() pipeline.ID             { return "show" }
func (s *Show) Inputs() []pipeline.Output { return []pipeline.Output{s.greeting} }
func (*Show) Outputs() []pipeline.Output  { return nil }

func (s *Show) Run(_ context.Context, w *pipeline.Work) error {
	text, err := os.ReadFile(w.Input(s.greeting).Path)
	fmt.Printf("  %s\n", text)
	return err
}

// printEnds is a Sink that prints how steps end.
type printEnds struct{}

func (printEnds) Emit(e pipeline.Event) {
	if x, ok := e.Payload.(pipeline.Ended); ok {
		fmt.Printf("  %s: %s\n", e.Step, x.State)
	}
}

// A runner takes from the store what a step made before of the same facts.
func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	cache, err := store.Open(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	runner := &pipeline.Runner{RunID: "example", Workspace: dir, Store: cache, Sink: printEnds{}}
	for _, name := range []string{"Ada", "Ada", "Grace"} {
		greet := &Greet{Name: name}
		steps := []pipeline.Step{greet, &Show{greeting: greet.Outputs()[0]}}
		plan, err := runner.Plan(context.Background(), steps)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("greet", plan[0].Verdict)
		if err := runner.Run(context.Background(), steps); err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// greet will run, because it has not run in this workspace
	//   greet: done
	//   hello, Ada
	//   show: done
	// greet cached
	//   greet: cached
	//   hello, Ada
	//   show: done
	// greet will run, because name: Ada → Grace
	//   greet: done
	//   hello, Grace
	//   show: done
}
