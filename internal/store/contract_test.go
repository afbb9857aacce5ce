package store_test

import (
	"testing"

	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/pipeline/pipelinetest"
)

func TestContract(t *testing.T) {
	t.Parallel()
	pipelinetest.TestStore(t, func(t *testing.T) pipeline.Store {
		t.Helper()
		return open(t)
	})
}
