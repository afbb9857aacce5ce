package docker

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/docker/docker/pkg/stdcopy"
	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
)

// TestLogReader reads logs as engines give them: an entry a write.
func TestLogReader(t *testing.T) {
	t.Parallel()
	const t1, t2, t3 = "2026-01-02T03:04:05.000000001Z ", "2026-01-02T03:04:05.000000002Z ", "2026-01-02T04:04:06+01:00 "
	type reading []struct{ stream, entry string }
	for name, tt := range map[string]struct {
		first, second reading
		want          []string // with the second of its time before it
	}{
		"whole":          {reading{{"out", t1 + "a\n"}, {"err", t2 + "b\n"}, {"out", t3 + "c"}}, nil, []string{"5 a", "5 b", "6 c"}},
		"empty line":     {reading{{"out", t1 + "\n"}}, nil, []string{"5 "}},
		"a long line":    {reading{{"out", t1 + "aaa "}, {"err", t2 + "b\n"}, {"out", t3 + "aaa\n"}}, nil, []string{"5 b", "5 aaa aaa"}},
		"once stamped":   {reading{{"out", t1 + "aaa "}, {"out", "aaa\n"}}, nil, []string{"5 aaa aaa"}},
		"clock put back": {reading{{"out", t3 + "a\n"}, {"out", t1 + "b\n"}}, nil, []string{"6 a", "5 b"}},
		"nothing more":   {reading{{"out", t1 + "a\n"}}, reading{{"out", t1 + "a\n"}}, []string{"5 a"}},
		"the end lost":   {reading{{"out", t1 + "a\n"}}, reading{{"out", t1 + "a\n"}, {"out", t2 + "b\n"}}, []string{"5 a", "5 b"}},
		"all lost":       {nil, reading{{"out", t1 + "a\n"}, {"err", t1 + "b\n"}}, []string{"5 a", "5 b"}},
		"stamped alike":  {reading{{"out", t1 + "a\n"}, {"out", t1 + "b\n"}}, reading{{"out", t1 + "a\n"}, {"out", t1 + "b\n"}, {"out", t1 + "c\n"}}, []string{"5 a", "5 b", "5 c"}},
		"other stream":   {reading{{"out", t2 + "a\n"}}, reading{{"err", t1 + "before\n"}, {"out", t2 + "a\n"}, {"err", t3 + "b\n"}}, []string{"5 a", "6 b"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			r := &logReader{arrived: func() {}, awaited: func() {}, each: func(l container.LogLine) error {
				got = append(got, l.Time.Format("5 ")+l.Text)
				return nil
			}}
			read := func(all reading) {
				streams := map[string]*logStream{"out": newLogStream(r, false), "err": newLogStream(r, true)}
				for _, e := range all {
					if n, err := streams[e.stream].Write([]byte(e.entry)); n != len(e.entry) || err != nil {
						t.Errorf("write: %d, %v", n, err)
					}
				}
				streams["out"].lines.Flush()
				streams["err"].lines.Flush()
			}
			read(tt.first)
			if tt.second != nil {
				r.again()
				read(tt.second)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLogReaderStops(t *testing.T) {
	t.Parallel()
	enough, calls := errors.New("enough"), 0
	r := &logReader{arrived: func() {}, awaited: func() {}, each: func(container.LogLine) error { calls++; return enough }}
	s := newLogStream(r, false)
	for range 2 {
		if _, err := s.Write([]byte(time.Now().Format(time.RFC3339Nano) + " a\n")); !errors.Is(err, enough) {
			t.Errorf("got %v", err)
		}
	}
	if calls != 1 {
		t.Errorf("%d calls", calls)
	}
}

// Whoever reads slowly, as `dalirun logs | less` does, is no engine that does not answer; one that stops in the middle is.
func TestLogsToSlowReader(t *testing.T) {
	t.Parallel()
	const (
		limit = time.Second
		lines = 30_000 // more than is on its way
	)
	begin := time.Date(2026, 1, 2, 3, 4, 5, 1, time.UTC)
	for name, tt := range map[string]struct {
		follow, stuck bool
	}{
		"slow reader":                {},
		"slow reader that follows":   {follow: true},
		"engine that does not go on": {stuck: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &api{answers: map[string]http.HandlerFunc{
				"GET /containers/c/logs": func(w http.ResponseWriter, r *http.Request) {
					lines := lines
					if r.FormValue("follow") == "1" {
						lines = 1 // the rest is lost: it is read once more
					}
					stdout := stdcopy.NewStdWriter(w, stdcopy.Stdout)
					for i := range lines {
						_, _ = fmt.Fprintf(stdout, "%s %d\n", begin.Add(time.Duration(i)).Format(time.RFC3339Nano), i)
						if tt.stuck && i == 1 {
							_ = http.NewResponseController(w).Flush()
							<-r.Context().Done()
							return
						}
					}
				},
			}}
			h := &handle{runtime: a.serve(t, Options{AnswerWithin: limit}), id: "c", name: "c"}
			got := 0
			o := container.LogOptions{Tail: container.AllLines, Follow: tt.follow}
			err := h.Logs(t.Context(), o, func(l container.LogLine) error {
				if got++; l.Text == "1" {
					time.Sleep(limit * 3 / 2) // the reader's pause, longer than the engine may have
				}
				return nil
			})
			switch {
			case tt.stuck && !errors.Is(err, errNoReply):
				t.Errorf("got %v", err)
			case !tt.stuck && (err != nil || got != lines):
				t.Errorf("got %d lines, %v", got, err)
			}
		})
	}
}
