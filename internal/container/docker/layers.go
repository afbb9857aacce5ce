package docker

import (
	"fmt"

	"github.com/docker/docker/pkg/jsonmessage"

	"github.com/dalirun/dalirun/internal/container"
)

// layers sums up a pull. An engine reports each layer by itself, starts over when it retries one, and says how large
// one is only when its turn comes.
type layers struct {
	byID  map[string]*layer
	shown container.Progress
}

type layer struct {
	current, total int64 // bytes fetched
	fetched, done  bool
}

func newLayers() *layers { return &layers{byID: map[string]*layer{}} }

// see takes a message in, and says whether it was about a layer.
func (l *layers) see(m jsonmessage.JSONMessage) bool {
	if m.ID == "" {
		return false
	}
	one := l.byID[m.ID]
	if one == nil {
		one = &layer{}
	}
	switch m.Status {
	case "Pulling fs layer", "Waiting":
	case "Downloading":
		if m.Progress != nil {
			one.current = max(one.current, m.Progress.Current)
			one.total = max(one.total, m.Progress.Total)
		}
	case "Verifying Checksum", "Download complete", "Extracting":
		one.fetched = true
	case "Pull complete":
		one.fetched, one.done = true, true
	case "Already exists":
		one.fetched, one.done = true, true
	default:
		return false // such as "Pulling from library/debian", whose ID is the tag
	}
	if one.fetched {
		one.current = max(one.current, one.total)
	}
	l.byID[m.ID] = one
	return true
}

// progress returns the bytes fetched, which never become fewer. The total is zero until each layer's size is known,
// because one that grows makes a percentage that falls.
func (l *layers) progress() container.Progress {
	var current, total int64
	known, fetched, done := true, 0, 0
	for _, one := range l.byID {
		current += one.current
		total += one.total
		known = known && (one.total > 0 || one.fetched)
		if one.fetched {
			fetched++
		}
		if one.done {
			done++
		}
	}
	if !known || total < l.shown.Total {
		total = l.shown.Total
	}
	text := fmt.Sprintf("%d of %d layers fetched", fetched, len(l.byID))
	if fetched == len(l.byID) {
		text = fmt.Sprintf("%d of %d layers unpacked", done, len(l.byID))
	}
	current = max(current, l.shown.Current)
	if total > 0 {
		total = max(total, current)
	}
	l.shown = container.Progress{Text: text, Current: current, Total: total}
	return l.shown
}
