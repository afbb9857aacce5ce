package classify_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/classify"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/triton"
)

// many are n pictures in one file.
func many(name string, n int) []classify.Picture {
	return slices.Repeat([]classify.Picture{{Name: name}}, n)
}

func askerOf(tb testing.TB, url string, jobs int) *classify.Asker {
	tb.Helper()
	r := request(url)
	r.Jobs = jobs
	asker := classify.New(tb.Context(), r, &userfile.Reader{}, nobody{tb})
	tb.Cleanup(asker.Close)
	return asker
}

// As many pictures are at the server as there are jobs, no more, and the answers come in the order of the pictures.
func TestAllIsBounded(t *testing.T) {
	t.Parallel()
	for _, jobs := range []int{1, 3, 8} {
		var here, most, asked atomic.Int32
		full := make(chan struct{})
		once := sync.OnceFunc(func() { close(full) })
		url := classifier(t, func([]byte) ([]float32, error) {
			n := here.Add(1)
			defer here.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			if int(n) == jobs {
				once()
			}
			<-full // nothing is answered before as many as may be are here
			return []float32{float32(asked.Add(1)), 0}, nil
		})
		pictures := many(picture(t), 5*jobs)
		for i := range pictures {
			if i%5 == 1 {
				pictures[i] = classify.Picture{Name: fmt.Sprintf("/nowhere/%d", i)}
			}
			if i%5 == 2 {
				pictures[i] = classify.Picture{Name: fmt.Sprintf("none %d", i), Err: errors.New("there is none")}
			}
		}
		i := 0
		for record, err := range askerOf(t, url, jobs).All(t.Context(), pictures) {
			if record.Image != pictures[i].Name || (err == nil) != (i%5 != 1 && i%5 != 2) || err == nil && len(record.Classes) != 1 {
				t.Errorf("%d jobs: picture %d: %+v, %v", jobs, i, record, err)
			}
			i++
		}
		if i != len(pictures) || int(most.Load()) != jobs {
			t.Errorf("%d jobs: %d records, at most %d pictures at the server", jobs, i, most.Load())
		}
	}
}

// No more pictures are read than are asked about and read ahead, whatever is behind them.
func TestAllReadsFewAhead(t *testing.T) {
	t.Parallel()
	const jobs = 2
	stuck, here := make(chan struct{}), make(chan struct{}, jobs)
	url := classifier(t, func([]byte) ([]float32, error) {
		here <- struct{}{}
		<-stuck
		return []float32{1, 0}, nil
	})
	name, dir := picture(t), t.TempDir()
	pictures := many(name, 60)
	for i := range pictures { // of a pipe it shows that it is read
		if i >= jobs+jobs {
			fifo := filepath.Join(dir, strconv.Itoa(i))
			if err := makePipe(fifo); err != nil {
				t.Fatal(err)
			}
			pictures[i].Name = fifo
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	next := 0
	done := make(chan struct{})
	all := askerOf(t, url, jobs).All(ctx, pictures)
	go func() {
		defer close(done)
		for _, err := range all {
			if err != nil {
				next++
			}
		}
	}()
	for range jobs {
		<-here
	}
	opened := func(fifo string) bool { // ENXIO while nobody reads it
		fd, err := syscall.Open(fifo, syscall.O_WRONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
		if err == nil {
			_ = syscall.Close(fd)
		}
		return err == nil
	}
	for _, p := range pictures[2*jobs:] {
		if opened(p.Name) {
			t.Errorf("%s is read", p.Name)
		}
	}
	cancel(errors.New("stopped"))
	close(stuck)
	<-done
	if next < len(pictures)-jobs {
		t.Errorf("%d records of what was stopped", next)
	}
}

// A picture that takes long does not hold up those behind it.
func TestAllPassesSlowOne(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	others := make(chan struct{})
	url := classifier(t, func([]byte) ([]float32, error) {
		switch asked.Add(1) {
		case 1:
			<-others
		case 100:
			close(others)
		}
		return []float32{1, 0}, nil
	})
	for record, err := range askerOf(t, url, 2).All(t.Context(), many(picture(t), 110)) {
		if err != nil || len(record.Classes) != 1 {
			t.Errorf("%+v, %v", record, err)
		}
	}
}

// A signal: what was answered stays, and each of the others has a record that says what stopped it.
func TestAllStopped(t *testing.T) {
	t.Parallel()
	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	var asked atomic.Int32
	url := classifier(t, func([]byte) ([]float32, error) {
		if asked.Add(1) > 4 {
			cancel(stopped)
			<-t.Context().Done()
		}
		return []float32{1, 0}, nil
	})
	answered, after := 0, 0
	for record, err := range askerOf(t, url, 2).All(ctx, many(picture(t), 300)) {
		switch {
		case err == nil && len(record.Classes) == 1:
			answered++
		case errors.Is(err, stopped):
			after++
		default:
			t.Errorf("%+v, %v", record, err)
		}
	}
	if answered < 3 || answered > 5 || answered+after != 300 { // at the moment of the signal one may be on its way
		t.Errorf("%d answered, %d not", answered, after)
	}
}

// What all fail from is the error of each from the first on that met it, whatever else is wrong with those behind; who
// looks at no more records ends it.
func TestAllFromOneCause(t *testing.T) {
	t.Parallel()
	name := picture(t)
	pictures := append([]classify.Picture{{Name: "/nowhere/first"}, {Name: name}, {Name: "/nowhere/last"}}, many(name, 40)...)
	r := request("127.0.0.1:1")
	r.Jobs = 8
	asker := classify.New(t.Context(), r, &userfile.Reader{}, engine{servers: serving.Servers{Runtime: &containertest.Fake{}}})
	defer asker.Close()
	i := 0
	for record, err := range asker.All(t.Context(), pictures) {
		if own := !errors.Is(err, asker.Err()); record.Image != pictures[i].Name || own != (i == 0) {
			t.Errorf("%d: %+v, %v", i, record, err)
		}
		i++
	}
	if !errors.Is(asker.Err(), triton.ErrUnavailable) || i != len(pictures) {
		t.Errorf("%d records, %v", i, asker.Err())
	}
	for _, err := range askerOf(t, classifier(t, cat), 8).All(t.Context(), many(name, 5000)) {
		if err != nil {
			t.Error(err)
		}
		break
	}
}

// One server that is busy for a time with each picture, 8 at a time: what it gives 8 clients that send one after the other,
// and what All gets from it.
func BenchmarkAll(b *testing.B) {
	const service, pictures = 5 * time.Millisecond, 200
	room := make(chan struct{}, 8)
	url := classifier(b, func([]byte) ([]float32, error) {
		room <- struct{}{}
		defer func() { <-room }()
		time.Sleep(service)
		return []float32{2, 1}, nil
	})
	name := picture(b)
	data, err := os.ReadFile(name)
	if err != nil {
		b.Fatal(err)
	}
	rate := func(b *testing.B) {
		b.Helper()
		b.ReportMetric(float64(b.N)*pictures/b.Elapsed().Seconds(), "pictures/s")
	}
	b.Run("8 clients", func(b *testing.B) {
		for b.Loop() {
			var left atomic.Int32
			left.Store(pictures)
			var clients sync.WaitGroup
			for range 8 {
				clients.Go(func() {
					client, err := triton.Dial(url)
					if err != nil {
						b.Error(err)
						return
					}
					defer client.Close() //nolint:errcheck // nothing is in flight
					for left.Add(-1) >= 0 {
						if _, err := client.Classify(b.Context(), model, data, triton.EveryClass); err != nil {
							b.Error(err)
						}
					}
				})
			}
			clients.Wait()
		}
		rate(b)
	})
	for _, jobs := range []int{1, 8} {
		b.Run(fmt.Sprintf("jobs=%d", jobs), func(b *testing.B) {
			for b.Loop() {
				for _, err := range askerOf(b, url, jobs).All(b.Context(), many(name, pictures)) {
					if err != nil {
						b.Error(err)
					}
				}
			}
			rate(b)
		})
	}
}
