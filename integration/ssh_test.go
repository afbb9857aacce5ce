//go:build integration

package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/volume"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/needtest"
)

// throughSSH is the endpoint under which dalirun knows the engine of this machine. The host is one of sshServer's config alone.
const throughSSH = "ssh://engine.test"

// sshServer is an OpenSSH server of the test's own, and the ssh that leads there.
type sshServer struct {
	dir string // of all its files; the command line of each ssh that leads there names it
	bin string // where that ssh is
	pid int
}

// TestEngineOverSSH is dalirun on an engine over ssh, with each connection by itself and with all of them through one master.
func TestEngineOverSSH(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]string{
		"a connection each":   "",
		"a master that stays": "ControlMaster auto\nControlPersist yes\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSSHD(t, mainEngine(t), options)
			c := cpuLane(t).withOwnCache(t, nil) // other weights are no part of what others look at
			near := c.engine                     // the same one, as the test asks it
			c.engine = engine{Host: throughSSH}
			o := opts{Dir: t.TempDir(), Path: []string{s.bin}}
			t.Cleanup(func() {
				if t.Failed() {
					run(t, c.engine, o, "stop")
				}
			})

			began := time.Now()
			mustRun(t, 0, c.engine, o, c.args("setup")...)
			if made := near.created(t, workspace(o.Dir), began); len(made) != 0 {
				t.Errorf("a setup of what is in the cache ran containers: %v", made)
			}
			s.checkNoClient(t, "setup")
			s.serve(t, c, near, o, options == "")
			s.killed(t, c, near, o)

			if stays := strings.Contains(options, "ControlPersist"); s.endMaster(t) != stays {
				t.Errorf("a master of all connections stayed: %t, want %t", !stays, stays)
			}
			s.checkNoServer(t)
		})
	}
}

// serve is a detached server's life, with a reload or without.
func (s sshServer) serve(t *testing.T, c cpu, near engine, o opts, reload bool) {
	t.Helper()
	r := mustRun(t, 0, c.engine, o, c.args("serve", "--detach")...)
	if !strings.Contains(r.Stdout, "ready: on the container engine's host, "+throughSSH+": grpc 127.0.0.1:") {
		t.Errorf("serve says\n%s", r.Stdout)
	}
	if n := strings.Count(r.Stderr, copied+throughSSH); n != 1 {
		t.Errorf("serve tells %d times that folders are copied:\n%s", n, r.Stderr)
	}
	s.checkNoClient(t, "serve --detach")
	rows := near.containers(t, workspace(o.Dir))
	if len(rows) != 1 {
		t.Fatalf("containers: %v", rows)
	}
	server := name(rows[0])
	r = mustRun(t, 0, c.engine, o, "classify", "--format", "json", write(t, o.Dir, "coffee.jpg", sample(t)))
	if !strings.Contains(r.Stdout, fmt.Sprintf(`"server": "%s:8001"`, server)) || !strings.Contains(r.Stdout, `"classes"`) {
		t.Errorf("classify says\n%s", r.Stdout)
	}
	s.checkNoClient(t, "classify")
	if r = mustRun(t, 0, c.engine, o, "ps"); !strings.Contains(r.Stdout, server+":8001") || !strings.Contains(r.Stdout, " healthy ") {
		t.Errorf("ps says\n%s", r.Stdout)
	}
	s.checkNoClient(t, "ps")
	if reload {
		s.reload(t, c, o, server)
	}
	if r = mustRun(t, 0, c.engine, o, "stop"); !strings.Contains(r.Stdout, server) || strings.Contains(r.Stderr, "nothing to drain") {
		t.Errorf("stop says\n%s%s", r.Stdout, r.Stderr)
	}
	s.checkNoClient(t, "stop")
	near.checkNothingOf(t, workspace(o.Dir))
}

// reload has a server that got a copy of the model repository serve what was built since.
func (s sshServer) reload(t *testing.T, c cpu, o opts, server string) {
	t.Helper()
	classes := func() string {
		t.Helper()
		return mustRun(t, 0, c.engine, o, "classify", "--format", "csv", filepath.Join(o.Dir, "coffee.jpg")).Stdout
	}
	before := classes()
	mustRun(t, 0, c.engine, o, append(c.args("setup"), "--weights", "random:1")...)
	r := mustRun(t, 0, c.engine, o, "reload", "--cache-dir", c.cache)
	if r.Stdout != "reloaded "+server+"\n" || strings.Count(r.Stderr, copied+throughSSH) != 1 {
		t.Errorf("reload says\n%s%s", r.Stdout, r.Stderr)
	}
	if after := classes(); after == before {
		t.Errorf("after the reload, the answers are the old ones:\n%s", after)
	}
	r = mustRun(t, 0, c.engine, o, "status")
	if strings.Contains(r.Stdout, "built since") || strings.Contains(r.Stdout, "_candidate") {
		t.Errorf("after the reload, status says\n%s", r.Stdout)
	}
	s.checkNoClient(t, "reload")
}

// killed kills a server in the foreground, and looks whether the next command clears away what is left of it.
func (s sshServer) killed(t *testing.T, c cpu, near engine, o opts) {
	t.Helper()
	p := start(t, c.engine, o, c.args("serve")...)
	p.until(t, "that the server is ready", func() bool { return strings.Contains(p.stdout.String(), "ready: ") })
	if len(s.clients(t)) == 0 {
		t.Error("serve has no ssh: the test does not find what it looks for")
	}
	p.signal(t, syscall.SIGKILL)
	p.wait(t)
	mustRun(t, 0, c.engine, o, c.args("setup")...)
	s.checkNoClient(t, "a serve that was killed, and a setup")
	near.checkNothingOf(t, workspace(o.Dir))
}

// checkNothingOf fails the test if a workspace has anything on the engine.
func (e engine) checkNothingOf(t *testing.T, workspace string) {
	t.Helper()
	if left := e.containers(t, workspace); len(left) != 0 {
		t.Errorf("containers are left: %v", left)
	}
	volumes, err := e.client(t).VolumeList(t.Context(), volume.ListOptions{
		Filters: filters.NewArgs(filters.Arg("label", container.LabelWorkspace+"="+workspace)),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range volumes.Volumes {
		t.Errorf("a volume is left: %s %v", v.Name, v.Labels)
	}
}

// startSSHD starts a server that lets the test's own user in, with an engine as Docker's client there finds it. It ends with the test.
// The options are further ones of the ssh that leads there.
func startSSHD(t *testing.T, e engine, options string) sshServer {
	t.Helper()
	for _, program := range []string{"docker", "ssh", "ssh-keygen"} {
		if _, err := exec.LookPath(program); err != nil {
			needtest.Missing(t, "an engine over ssh needs %s: %v", program, err)
		}
	}
	const sshd = "/usr/sbin/sshd" // which a user's PATH often lacks; it starts itself again, by its whole path
	if _, err := os.Stat(sshd); err != nil {
		needtest.Missing(t, "an engine over ssh needs OpenSSH's server: %v", err)
	}
	if os.Getuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // it goes there to be harmless; its service makes it
			t.Fatal(err)
		}
	}
	me, err := osuser.Current()
	if err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir: the path of the master's socket has at most 107 bytes.
	dir, err := os.MkdirTemp("", "dalirun-ssh") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	s := sshServer{dir: dir, bin: filepath.Join(dir, "bin")}
	for _, key := range []string{"host", "me"} {
		if err := command(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key)); err != nil {
			t.Fatal(err)
		}
	}
	host, err := os.ReadFile(filepath.Join(dir, "host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "known", append([]byte("engine.test "), host...))
	// StrictModes refuses keys below a folder that others may write to, as /tmp. Without PAM no session needs what a bare
	// machine lacks.
	write(t, dir, "sshd_config", fmt.Appendf(nil, `ListenAddress 127.0.0.1
HostKey %[1]s/host
AuthorizedKeysFile %[1]s/me.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
SetEnv DOCKER_HOST=%[2]s "PATH=%[3]s" SERVED_BY=%[1]s
`, dir, e.Host, os.Getenv("PATH")))

	// Another program may take the port before the server does, which ends then.
	for range 5 {
		port := freePort(t)
		s.client(t, me.Username, port, options)
		log, answered := s.start(t, sshd, port)
		if answered {
			return s
		}
		t.Logf("no server on port %d:\n%s", port, log)
	}
	needtest.Missing(t, "OpenSSH's server let nobody in")
	return s
}

// client writes the ssh that leads to the server, and its config. ssh itself takes the user's home from the password file.
func (s sshServer) client(t *testing.T, user string, port int, options string) {
	t.Helper()
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		t.Fatal(err)
	}
	config := write(t, s.dir, "ssh_config", fmt.Appendf(nil, `Host engine.test
HostName 127.0.0.1
HostKeyAlias engine.test
Port %[2]d
User %[3]s
IdentityFile %[1]s/me
IdentitiesOnly yes
UserKnownHostsFile %[1]s/known
StrictHostKeyChecking yes
BatchMode yes
ControlPath %[1]s/master
%[4]s`, s.dir, port, user, options))
	wrapper := fmt.Sprintf("#!/bin/sh\nexec %s -F %s \"$@\"\n", ssh, config)
	if err := errors.Join(os.MkdirAll(s.bin, 0o755), os.WriteFile(filepath.Join(s.bin, "ssh"), []byte(wrapper), 0o755)); err != nil {
		t.Fatal(err)
	}
}

// start starts the server, and reports whether it lets the test in before it ends.
func (s *sshServer) start(t *testing.T, sshd string, port int) (log *output, answered bool) {
	t.Helper()
	cmd := exec.Command(sshd, "-D", "-e", "-f", filepath.Join(s.dir, "sshd_config"), "-p", strconv.Itoa(port))
	log = &output{}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.WaitDelay = 5 * time.Second // a session may have the pipes
	// A test process that is killed takes its server along.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		needtest.Missing(t, "%v", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // stopping it is how it ends
		close(ended)
	}()
	t.Cleanup(func() {
		s.endMaster(t)
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		<-ended
	})
	s.pid = cmd.Process.Pid
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timer := time.NewTimer(30 * time.Second)
	defer timer.Stop()
	for {
		err := command(t, filepath.Join(s.bin, "ssh"), "-o", "ControlMaster=no", "engine.test", "docker", "version")
		if err == nil {
			return log, true
		}
		select {
		case <-ended:
			return log, false
		case <-timer.C:
			t.Logf("nobody is let in within 30 s: %v", err)
			return log, false
		case <-tick.C:
		}
	}
}

// freePort returns a port of 127.0.0.1 on which nobody listens.
func freePort(t *testing.T) int {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // nothing was written
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// endMaster ends the master that ControlPersist leaves behind, and reports whether there is one.
func (s sshServer) endMaster(t *testing.T) (stayed bool) {
	t.Helper()
	if err := command(t, filepath.Join(s.bin, "ssh"), "-O", "check", "engine.test"); err != nil {
		return false
	}
	if err := command(t, filepath.Join(s.bin, "ssh"), "-O", "exit", "engine.test"); err != nil {
		t.Error(err)
	}
	return true
}

// checkNoClient fails the test if an ssh is left.
func (s sshServer) checkNoClient(t *testing.T, after string) {
	t.Helper()
	if left := s.clients(t); len(left) != 0 {
		t.Errorf("after %s, ssh is left: %q", after, left)
	}
}

// clients are the command lines of each ssh that leads to the server, but for a master, which is meant to stay.
func (s sshServer) clients(t *testing.T) (found []string) {
	t.Helper()
	for _, p := range processes(t) {
		if strings.Contains(p.args, s.dir+"/") && !strings.HasPrefix(p.args, "ssh: ") && p.pid != s.pid {
			found = append(found, p.args)
		}
	}
	return found
}

// checkNoServer fails the test if the server still serves somebody, or if a program is left that it started for somebody. The
// server sees later than ssh that ssh has ended.
func (s sshServer) checkNoServer(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var left []string
		for _, p := range processes(t) {
			if p.parent == s.pid || strings.Contains(p.env, "SERVED_BY="+s.dir+"\x00") {
				left = append(left, p.args)
			}
		}
		if len(left) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Errorf("sessions are left: %q", left)
			return
		case <-tick.C:
		}
	}
}

type proc struct {
	pid, parent int
	args        string
	env         string // NAME=value, each ended by a zero byte
}

// processes lists those of this machine that have not ended.
func processes(t *testing.T) (all []proc) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		args, argsErr := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		_, rest, _ := strings.Cut(string(stat[max(0, bytes.LastIndexByte(stat, ')')):]), " ") // behind the name in brackets
		fields := strings.Fields(rest)
		if err != nil || argsErr != nil || len(fields) < 2 || fields[0] == "Z" || fields[0] == "X" {
			continue
		}
		env, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "environ")) // another user's cannot be read
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		parent, parentErr := strconv.Atoi(fields[1])
		if err := errors.Join(err, parentErr); err != nil {
			t.Fatal(err)
		}
		all = append(all, proc{pid, parent, strings.TrimRight(strings.ReplaceAll(string(args), "\x00", " "), " "), string(env)})
	}
	return all
}
