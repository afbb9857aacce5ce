//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	dcontainer "github.com/docker/docker/api/types/container"

	"github.com/dalirun/dalirun/internal/picture/picturetest"
	"github.com/dalirun/dalirun/triton"
)

const (
	// soakRequests are a minute's work at most. `go tool task soak` asks for ten thousand.
	soakRequests = 600
	soakClients  = 32
	// mutatedEvery is one in how many pictures the fuzzer was at.
	mutatedEvery = 5
	// mutatedBytes is how many bytes of a picture the fuzzer changes at most: few end a decoder where many are refused by it.
	mutatedBytes = 6
	// soakAnswer bounds one answer: a picture that hangs a decoder holds up others by 20 s for each try.
	soakAnswer = 5 * time.Minute
	// soakGrowth is how much more memory the server may have in the end than after batches of good pictures from all clients.
	soakGrowth = 1.2
)

// TestSoak sends good pictures and pictures that a byte fuzzer was at. DALIRUN_SOAK_REQUESTS says how many, DALIRUN_SOAK_SEED
// repeats what a seed did.
func TestSoak(t *testing.T) {
	t.Parallel()
	requests := int(fromEnv(t, "DALIRUN_SOAK_REQUESTS", soakRequests))
	seed := fromEnv(t, "DALIRUN_SOAK_SEED", rand.Uint64())
	t.Logf("%d requests, DALIRUN_SOAK_SEED=%d", requests, seed)
	s := cpuLane(t).servePictures(t)
	s.fill(t)
	began := time.Now()
	before := s.memory(t)

	fuzzer := fuzzer{seed: seed}
	for _, row := range picturetest.Table() {
		fuzzer.pictures = append(fuzzer.pictures, picturetest.Data(t, row.File))
	}
	tally := s.soak(t, requests, func(i int) []byte {
		if i%mutatedEvery != 0 {
			return nil
		}
		return fuzzer.mutate(i)
	})
	s.unharmed(t)
	after := s.memory(t)
	t.Logf("%s within %s; memory %d MiB before, %d MiB after", tally, time.Since(began).Round(time.Second), before>>20, after>>20)
	if float64(after) > soakGrowth*float64(before) {
		t.Errorf("the server has %d MiB, and had %d MiB before", after>>20, before>>20)
	}
}

// fill lets the server get the memory that it keeps for the largest batch that the clients can make.
func (s *pictureServer) fill(t *testing.T) {
	t.Helper()
	s.soak(t, 4*soakClients, func(int) []byte { return nil })
	for _, m := range pictureModels() {
		for _, picture := range s.good {
			if _, err := s.ways["gRPC"](t.Context(), m, slices.Repeat([][]byte{picture}, soakClients)...); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func fromEnv(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// fuzzer makes pictures that are nearly whole.
type fuzzer struct {
	seed     uint64
	pictures [][]byte
}

// mutate returns the i-th picture of the seed.
func (f fuzzer) mutate(i int) []byte {
	random := rand.New(rand.NewPCG(f.seed, uint64(i)))
	picture := slices.Clone(f.pictures[random.IntN(len(f.pictures))])
	for range 1 + random.IntN(mutatedBytes) {
		picture[random.IntN(len(picture))] = byte(random.Uint32())
	}
	return picture
}

// soakTally counts what became of requests.
type soakTally struct {
	mu                      sync.Mutex
	right, decoded, refused int
	slowest                 time.Duration // of the good ones
}

func (s *soakTally) String() string {
	return fmt.Sprintf("%d good pictures answered right, the slowest after %s; of the mutated ones %d decoded, %d refused",
		s.right, s.slowest.Round(time.Millisecond), s.decoded, s.refused)
}

// soak sends requests by many clients: mutated pictures where there are some, else good ones.
func (s *pictureServer) soak(t *testing.T, requests int, mutated func(i int) []byte) *soakTally {
	t.Helper()
	tally := &soakTally{}
	turns := make(chan int)
	var clients sync.WaitGroup
	for range soakClients {
		clients.Go(func() {
			for i := range turns {
				s.send(t, tally, i, mutated(i))
			}
		})
	}
	for i := range requests {
		turns <- i
	}
	close(turns)
	clients.Wait()
	return tally
}

func (s *pictureServer) send(t *testing.T, tally *soakTally, i int, mutated []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soakAnswer)
	defer cancel()
	m := pictureModels()[i/2%2]
	way := []string{"gRPC", "HTTP"}[i/4%2]
	if mutated != nil {
		_, err := s.ways[way](ctx, m, mutated)
		if err != nil && !errors.Is(err, triton.ErrInvalid) {
			t.Errorf("mutated picture %d by %s: %v", i, way, err)
		}
		tally.mu.Lock()
		defer tally.mu.Unlock()
		if err == nil {
			tally.decoded++
		} else {
			tally.refused++
		}
		return
	}
	file := []string{goodJPEG, goodPNG}[i%2]
	began := time.Now()
	got, err := s.ways[way](ctx, m, s.good[file])
	took := time.Since(began)
	if err != nil {
		t.Errorf("good picture %d by %s: %v", i, way, err)
		return
	}
	s.right(t, fmt.Sprintf("request %d by %s", i, way), m, file, got)
	tally.mu.Lock()
	defer tally.mu.Unlock()
	tally.right++
	tally.slowest = max(tally.slowest, took)
}

// memory is what the server's container has, in bytes, without the part of the page cache that it could lose at once, as `docker stats` counts it.
func (s *pictureServer) memory(t *testing.T) uint64 {
	t.Helper()
	answer, err := s.engine.client(t).ContainerStatsOneShot(t.Context(), s.name)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close() //nolint:errcheck // it was read
	var stats dcontainer.StatsResponse
	if err := json.NewDecoder(answer.Body).Decode(&stats); err != nil {
		t.Fatal(err)
	}
	cache := stats.MemoryStats.Stats["inactive_file"] // of cgroup v2
	if total, v1 := stats.MemoryStats.Stats["total_inactive_file"]; v1 {
		cache = total
	}
	if stats.MemoryStats.Usage <= cache {
		t.Fatalf("the server has %d bytes of memory, of them %d of files", stats.MemoryStats.Usage, cache)
	}
	return stats.MemoryStats.Usage - cache
}
