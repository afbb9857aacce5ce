package doctor_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/doctor"
)

// A check is a line, what to do is another one, and the last line says whether a run would begin.
func TestWriteText(t *testing.T) {
	t.Parallel()
	findings := []doctor.Finding{
		{Check: "container engine", Status: doctor.OK, Saw: "Docker 29"}, {Check: "ports", Status: doctor.Fail, Saw: "8000 is taken", Remedy: "name another"},
	}
	const want = `ok    container engine  Docker 29
fail  ports             8000 is taken
                        name another

not ready: 1 failed, 1 ok
`
	var b bytes.Buffer
	err := doctor.WriteText(&b, findings)
	if diff := cmp.Diff(want, b.String()); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	full := errors.New("the disk is full")
	if err := doctor.WriteText(fails{full}, findings); !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
}

type fails struct{ err error }

func (f fails) Write([]byte) (int, error) { return 0, f.err }
