package userfile

import (
	"context"
	"errors"
	"fmt"

	"github.com/dalirun/dalirun/internal/bounded"
	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/picture"
	"github.com/dalirun/dalirun/pipeline"
)

// Picture reads an encoded picture and refuses what a server should not get to decode. Its errors name the picture as
// [Shown] does.
func (r *Reader) Picture(ctx context.Context, name string) ([]byte, picture.Info, error) {
	limits := picture.DefaultLimits()
	data, err := r.Read(ctx, name, limits.MaxBytes)
	shown := Shown(name)
	var info picture.Info
	switch {
	case ctx.Err() != nil:
		return nil, info, context.Cause(ctx)
	case errors.Is(err, ErrTooLong):
		detail := "more than " + bytesize.Format(limits.MaxBytes) + ", which is the limit"
		err = &picture.Error{Reason: picture.TooLarge, Detail: detail}
	case err != nil:
		return nil, info, fmt.Errorf("read the picture: %s: %w", shown, AsUsage(err))
	default: // it may take half a minute
		info, err = bounded.Call(ctx, func() (picture.Info, error) { return picture.Check(data, limits) })
	}
	if ended := context.Cause(ctx); ended != nil && errors.Is(err, ended) {
		return nil, info, err
	}
	if err != nil {
		hint := ""
		if refused, ok := errors.AsType[*picture.Error](err); ok {
			hint = refused.Hint()
		}
		return nil, info, pipeline.Usagef(hint, "%s: %w", shown, err)
	}
	return data, info, nil
}
