package docker

import (
	"fmt"

	"github.com/docker/docker/pkg/jsonmessage"

	"github.com/dalirun/dalirun/internal/container"
)

// layers sums up the progress of a pull. An engine reports each layer on its own, starts over when it retries a layer,
// and reports a layer's size only when it begins to fetch it.
type layers struct {
	byID map[string]*layer
	last container.Progress
}

type layer struct {
	current, total    int64 // bytes fetched
	fetched, unpacked bool
}

func newLayers() *layers { return &layers{byID: map[string]*layer{}} }

// read adds a message, and reports whether it was about a layer.
func (l *layers) read(m jsonmessage.JSONMessage) bool {
	if m.ID == "" {
		return false
	}
	item := l.byID[m.ID]
	if item == nil {
		item = &layer{}
	}
	switch m.Status {
	case "Pulling fs layer", "Waiting":
	case "Downloading":
		if m.Progress != nil {
			item.current = max(item.current, m.Progress.Current)
			item.total = max(item.total, m.Progress.Total)
		}
	case "Verifying Checksum", "Download complete", "Extracting":
		item.fetched = true
	case "Pull complete":
		item.fetched, item.unpacked = true, true
	case "Already exists":
		item.fetched, item.unpacked = true, true
	default:
		return false // such as "Pulling from library/debian", whose ID is the tag
	}
	if item.fetched {
		item.current = max(item.current, item.total)
	}
	l.byID[m.ID] = item
	return true
}

// progress returns the bytes fetched, which never decrease. The total is zero until every layer's size is known,
// because a growing total would make the percentage fall.
func (l *layers) progress() container.Progress {
	var current, total int64
	known, fetched, unpacked := true, 0, 0
	for _, item := range l.byID {
		current += item.current
		total += item.total
		known = known && (item.total > 0 || item.fetched)
		if item.fetched {
			fetched++
		}
		if item.unpacked {
			unpacked++
		}
	}
	if !known || total < l.last.Total {
		total = l.last.Total
	}
	text := fmt.Sprintf("%d of %d layers fetched", fetched, len(l.byID))
	if fetched == len(l.byID) {
		text = fmt.Sprintf("%d of %d layers unpacked", unpacked, len(l.byID))
	}
	current = max(current, l.last.Current)
	if total > 0 {
		total = max(total, current)
	}
	l.last = container.Progress{Text: text, Current: current, Total: total}
	return l.last
}
