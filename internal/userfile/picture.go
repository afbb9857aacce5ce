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
	data, err := r.File(name).ReadPicture(ctx)
	if err != nil {
		return nil, picture.Info{}, err
	}
	info, err := CheckPicture(ctx, name, data)
	if err != nil {
		return nil, info, err
	}
	return data, info, nil
}

// ReadPicture reads an encoded picture that [CheckPicture] is to look at. Its errors name the picture as [Shown] does.
func (f File) ReadPicture(ctx context.Context) ([]byte, error) {
	limit := picture.DefaultLimits().MaxBytes
	data, err := f.Read(ctx, limit)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, ErrTooLong):
		detail := "more than " + bytesize.Format(limit) + ", which is the limit"
		return nil, refusal(f.name, &picture.Error{Reason: picture.TooLarge, Detail: detail})
	case err != nil:
		return nil, fmt.Errorf("read the picture: %s: %w", Shown(f.name), AsUsage(err))
	}
	return data, nil
}

// CheckPicture refuses what a server should not get to decode. It may take half a minute of one CPU, and for the pixels
// of a picture as large as is allowed some hundred MiB of memory. Its errors name the picture as [Shown] does.
func CheckPicture(ctx context.Context, name string, data []byte) (picture.Info, error) {
	info, err := bounded.Call(ctx, func() (picture.Info, error) { return picture.Check(data, picture.DefaultLimits()) })
	if ended := context.Cause(ctx); err == nil || ended != nil && errors.Is(err, ended) {
		return info, err
	}
	return info, refusal(name, err)
}

// refusal is the fault of a picture that is not sent.
func refusal(name string, err error) error {
	hint := ""
	if refused, ok := errors.AsType[*picture.Error](err); ok {
		hint = refused.Hint()
	}
	return pipeline.Usagef(hint, "%s: %w", Shown(name), err)
}
