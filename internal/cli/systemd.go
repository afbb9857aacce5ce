package cli

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/dalirun/dalirun/internal/bounded"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/serving"
)

const (
	// notifyWithin bounds a message to the service manager, whose socket may be full.
	notifyWithin = time.Second
	// stopsWithin is longer than a foreground serve takes to stop: before the end of the run the server is judged.
	stopsWithin = cleanup + 5*time.Second
)

// serviceManager is what started dalirun and wants to know how its server goes: systemd, for a unit with Type=notify.
// Whatever is wrong with it stops no server.
type serviceManager struct {
	socket string // empty if nothing wants to know
	warn   func(string)

	mu     sync.Mutex
	ended  bool // stopping was told, which is the last of it
	warned bool
}

// serviceManager returns the one that NOTIFY_SOCKET names.
func (a *App) serviceManager(warn func(string)) *serviceManager {
	return &serviceManager{socket: a.env("NOTIFY_SOCKET"), warn: warn}
}

// supervision tells the service manager of a server, and that dalirun is alive, twice as often as it asks to be told.
func (m *serviceManager) supervision(ctx context.Context, server owner.ServerFile) serving.Supervision {
	if m.socket == "" {
		return serving.Supervision{}
	}
	within, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		m.warn("the service manager's watchdog is not told that dalirun is alive: " + err.Error())
	}
	return serving.Supervision{
		Enter: func(p serving.Phase) { m.enter(ctx, p, server) },
		Alive: func() { m.notify(ctx, daemon.SdNotifyWatchdog, false) },
		Beat:  within / 2,
	}
}

// enter tells of a phase.
func (m *serviceManager) enter(ctx context.Context, p serving.Phase, server owner.ServerFile) {
	switch p {
	case serving.PhaseServing:
		m.notify(ctx, daemon.SdNotifyReady+"\nSTATUS=serving, grpc "+server.GRPC, false)
	case serving.PhaseReloading:
		m.notify(ctx, daemon.SdNotifyReloading+"\n"+daemon.SdNotifyMonotonicUsec()+"STATUS=replacing the models", false)
	case serving.PhaseStopping:
		m.stopping(ctx)
	}
}

// stopping tells that dalirun stops, and how long that may take. Nothing is told after it: systemd would set its
// watchdog going again, which then ended a server that lets its requests in flight end.
func (m *serviceManager) stopping(ctx context.Context) {
	m.notify(ctx, fmt.Sprintf("%s\nSTATUS=letting requests in flight end\nEXTEND_TIMEOUT_USEC=%d", daemon.SdNotifyStopping,
		stopsWithin.Microseconds()), true)
}

// notify sends a message. Who is not told is warned of once, since each message would say the same.
func (m *serviceManager) notify(ctx context.Context, message string, last bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.socket == "" || m.ended {
		return
	}
	m.ended = last
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), notifyWithin,
		fmt.Errorf("it takes no message within %s", notifyWithin))
	defer cancel()
	_, err := bounded.Call(ctx, func() (bool, error) { return daemon.SdNotify(false, message) })
	if err == nil || m.warned {
		return
	}
	m.warned = true
	m.warn(fmt.Sprintf("the service manager at NOTIFY_SOCKET=%s is not told how the server is: %v; unset it where there "+
		"is none", m.socket, err))
}
