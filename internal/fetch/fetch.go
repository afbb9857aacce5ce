// Package fetch downloads files over HTTP, through the proxies of the environment as Go reads them.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/dalirun/dalirun/internal/bytesize"
)

// Fetcher downloads.
type Fetcher struct{}

// Fetch downloads url into the new file path, and returns where it came from after all redirections. A file of more
// than most bytes is an error; after an error there is none. onProgress gets the bytes that came and those that were
// announced, 0 if they were not, a few times a second at most.
func (Fetcher) Fetch(
	ctx context.Context, url, path string, most int64, onProgress func(current, total int64),
) (from string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err // it says GET, the URL and why
	}
	defer response.Body.Close() //nolint:errcheck // only read
	from = response.Request.URL.Redacted()
	if response.StatusCode != http.StatusOK {
		return from, fmt.Errorf("GET %s: %s", from, response.Status)
	}
	if response.ContentLength > most {
		return from, fmt.Errorf("GET %s: it announces %d bytes, and expected are %d", from, response.ContentLength, most)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return from, err
	}
	defer func() {
		if err = errors.Join(err, file.Close()); err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	counted := &counter{total: response.ContentLength, report: onProgress}
	// One byte more than the limit is enough to see that it is too large.
	n, err := io.Copy(file, io.TeeReader(io.LimitReader(response.Body, most+1), counted))
	switch {
	case err != nil:
		return from, fmt.Errorf("GET %s: after %s: %w", from, bytesize.Format(n), err)
	case n > most:
		return from, fmt.Errorf("GET %s: it sends more than the %d bytes that are expected", from, most)
	}
	return from, nil
}

// Reachable is nil if url answers with 200 within limit.
func (Fetcher) Reachable(ctx context.Context, url string, limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s", limit))
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	if err := response.Body.Close(); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("HEAD %s: %s", url, response.Status)
	}
	return nil
}

// counter reports progress, a few times a second at most.
type counter struct {
	current, total int64
	reported       time.Time
	report         func(current, total int64)
}

func (c *counter) Write(p []byte) (int, error) {
	c.current += int64(len(p))
	if now := time.Now(); now.Sub(c.reported) > 200*time.Millisecond || c.current == c.total {
		c.reported = now
		c.report(c.current, max(c.total, 0))
	}
	return len(p), nil
}
