package steps_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/steps"
)

// What a server is given of its hardware reaches a step: a field that none reads would be taken and change nothing. That
// the steps' own fields count, TestFields sees to.
func TestServingReachesSteps(t *testing.T) {
	t.Parallel()
	worlds := []*world{cpuLocal(t), gpuNGC(t)}
	all := reflect.TypeFor[target.Serving]()
	for i := range all.NumField() {
		reached := false
		for _, w := range worlds {
			before := steps.For(w.target, w.tools, steps.IDVerify)
			if !reflect.DeepEqual(before, steps.For(w.target, w.tools, steps.IDVerify)) {
				t.Fatal("the steps of one target are not the same twice")
			}
			other := w.target
			switch field := reflect.ValueOf(&other.Serving).Elem().Field(i); field.Kind() {
			case reflect.Float64:
				field.SetFloat(field.Float() + 0.05)
			case reflect.Struct:
				other.Serving.Picture = target.PictureSize{Width: other.Serving.Picture.Width + 1, Height: 1}
			default:
				field.SetInt(field.Int() + int64(time.Millisecond))
			}
			reached = reached || !reflect.DeepEqual(before, steps.For(other, w.tools, steps.IDVerify))
		}
		if !reached {
			t.Errorf("no step reads %s", all.Field(i).Name)
		}
	}
}
