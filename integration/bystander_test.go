//go:build integration

package integration

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/testcontainers/testcontainers-go"
	tclog "github.com/testcontainers/testcontainers-go/log"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/steps"
)

// bystanders starts containers on the engine of this machine that no sweep, gc or stop may touch, and fails the test at its
// end if one of them was. They are of the image that local images are built on, which is there, and is never pulled.
func (c cpu) bystanders(t *testing.T) {
	t.Helper()
	server := string(container.RoleServer)
	for name, labels := range map[string]container.Labels{
		// Somebody else's, although its name looks like one of ours.
		"dalirun-serve-" + strings.ToLower(rand.Text()[:8]): nil,
		// The server of a dalirun on another host that shares this engine, by now older than any batch container may get.
		"their-server-" + strings.ToLower(rand.Text()[:8]): {
			container.LabelRun: "20260101T000000Z-aaaaaa", container.LabelStep: string(steps.IDServe), container.LabelRole: server,
			container.LabelHost: "another-host", container.LabelBoot: "its-boot", container.LabelWorkspace: "/home/they/.dalirun",
			container.LabelExpires: "2026-01-02T00:00:00Z",
		},
		// What lacks the labels that tell whose it is.
		"half-labelled-" + strings.ToLower(rand.Text()[:8]): {container.LabelRun: "20260101T000000Z-bbbbbb", container.LabelRole: server},
	} {
		ctr, err := testcontainers.Run(t.Context(), c.base(t),
			testcontainers.WithName(name), testcontainers.WithLabels(labels), testcontainers.WithEntrypoint("sleep", "infinity"),
			testcontainers.WithHostConfigModifier(func(h *dcontainer.HostConfig) { h.NetworkMode = "none" }),
			testcontainers.WithLogger(tclog.TestLogger(t)),
		)
		testcontainers.CleanupContainer(t, ctr, testcontainers.StopTimeout(0))
		if err != nil {
			t.Fatal(err)
		}
		before := stateOf(t, ctr)
		t.Cleanup(func() {
			if after := stateOf(t, ctr); !after.Running || after.Pid != before.Pid || after.StartedAt != before.StartedAt {
				t.Errorf("the bystander %s was touched: it is %s, process %d of %s; was process %d of %s",
					name, after.Status, after.Pid, after.StartedAt, before.Pid, before.StartedAt)
			}
		})
	}
}

// stateOf returns the state of a container, also while the test ends.
func stateOf(t *testing.T, ctr testcontainers.Container) *dcontainer.State {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
	defer cancel()
	state, err := ctr.State(ctx)
	if err != nil {
		t.Errorf("a bystander is gone: %v", err)
		return &dcontainer.State{Status: "gone"}
	}
	return state
}
