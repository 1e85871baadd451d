//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"stile/build/lab/host"
)

// A load moves bytes over TCP as fast as it goes, with cubic at both ends:
// what the machine's default is must not decide a comparison.
type load struct {
	client  *host.Host
	server  netip.AddrPort
	streams int
	down    bool // from server to client
}

// Times of one measurement.
const (
	loadWarmUp  = 500 * time.Millisecond
	loadMeasure = 2 * time.Second
)

// downloads and uploads are the ports of the server that sends and of the one
// that receives.
const downloads, uploads = 5001, 5002

// serveLoad starts both servers on a host.
func (s *stage) serveLoad(h *host.Host) error {
	for _, port := range []int{downloads, uploads} {
		l, err := h.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		s.spawn("load server", func(ctx context.Context) error {
			var g sync.WaitGroup
			defer g.Wait()
			defer context.AfterFunc(ctx, func() { l.Close() })()
			for {
				c, err := l.Accept()
				if errors.Is(err, net.ErrClosed) {
					return nil
				} else if err != nil {
					return err
				}
				g.Go(func() { move(ctx, c, port == downloads, new(atomic.Int64)) })
			}
		})
	}
	return nil
}

// run measures: received bytes per second and what they cost. processes are
// those that carry the load, for which it counts CPU time.
func (l load) run(ctx context.Context, processes ...int) (t traffic, err error) {
	ctx, cancel := context.WithTimeout(ctx, 4*(loadWarmUp+loadMeasure))
	var g sync.WaitGroup
	defer g.Wait()
	defer cancel()
	port := uint16(uploads)
	if l.down {
		port = downloads
	}
	var bytes atomic.Int64
	for range l.streams {
		dial, stop := context.WithTimeout(ctx, 5*time.Second)
		c, err := l.client.Dial(dial, "tcp", netip.AddrPortFrom(l.server.Addr(), port).String())
		stop()
		if err != nil {
			return t, err
		}
		g.Go(func() { move(ctx, c, !l.down, &bytes) })
	}
	if err := pause(ctx, loadWarmUp); err != nil {
		return t, err
	}
	began, moved, spent, all := time.Now(), bytes.Load(), cpuOf(processes), cpuOfMachine()
	if err := pause(ctx, loadMeasure); err != nil {
		return t, err
	}
	t.bytes, t.took = float64(bytes.Load()-moved), time.Since(began)
	t.cpu, t.machine = cpuOf(processes)-spent, cpuOfMachine()-all
	if t.bytes == 0 {
		return t, fmt.Errorf("nothing moves between %s and %v", l.client.Name, l.server)
	}
	return t, nil
}

// move sends or receives until ctx or the connection ends, and closes it.
// bytes counts what the kernel took from us or gave us.
func move(ctx context.Context, c net.Conn, send bool, bytes *atomic.Int64) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if err := useCubic(c); err != nil {
		return
	}
	buf := make([]byte, 256<<10)
	for {
		step := c.Read
		if send {
			step = c.Write
		}
		n, err := step(buf)
		bytes.Add(int64(n))
		if err != nil {
			return
		}
	}
}

func useCubic(c net.Conn) error {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	var bad error
	if err := raw.Control(func(fd uintptr) {
		bad = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "cubic")
	}); err != nil {
		return err
	}
	return bad
}

// pause waits, or tells why ctx ended before.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// traffic is the outcome of one measurement.
type traffic struct {
	bytes        float64
	took         time.Duration
	cpu, machine time.Duration // of the processes that carry it; of everything on this machine
}

func (t traffic) mbit() float64 { return t.bytes * 8 / t.took.Seconds() / 1e6 }

// perGB is CPU seconds for each 10^9 bytes.
func (t traffic) perGB(cpu time.Duration) float64 { return cpu.Seconds() / (t.bytes / 1e9) }

// tick is the unit of CPU times in /proc, the same on every Linux system.
const tick = 10 * time.Millisecond

// cpuOf returns the CPU time that processes have used, user and system;
// ownCodeOf leaves what the kernel did for them out.
func cpuOf(processes []int) time.Duration     { return timesOf(processes, 11, 12) }
func ownCodeOf(processes []int) time.Duration { return timesOf(processes, 11) }

// timesOf adds some fields of /proc/pid/stat up, counted from the one behind the
// name.
func timesOf(processes []int, fields ...int) (sum time.Duration) {
	for _, pid := range processes {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it ended; the measurement fails for that
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		sum += ticks(strings.Fields(rest), fields)
	}
	return sum
}

// cpuOfMachine returns the CPU time that was not idle, of all cores together;
// programsOfMachine what programs used, and what a machine below this one kept
// for itself.
func cpuOfMachine() time.Duration      { return timesOfMachine(1, 2, 3, 6, 7) }
func programsOfMachine() time.Duration { return timesOfMachine(1, 2, 8) }

// timesOfMachine adds some of cpu, user, nice, system, idle, iowait, irq,
// softirq, steal up.
func timesOfMachine(fields ...int) time.Duration {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return ticks(strings.Fields(line), fields)
}

func ticks(line []string, fields []int) (sum time.Duration) {
	for _, f := range fields {
		n, _ := strconv.ParseInt(line[f], 10, 64)
		sum += time.Duration(n) * tick
	}
	return sum
}

// residentMB returns the memory of a process that is in RAM, in MB of 10^6 bytes.
func residentMB(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	return float64(pages) * float64(os.Getpagesize()) / 1e6
}

// udpBuffers returns the largest send and receive buffer among the UDP sockets
// of a process, in bytes as the kernel accounts for them.
func udpBuffers(pid int) (send, receive int, err error) {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return 0, 0, err
	}
	defer unix.Close(process)
	dir, err := os.Open(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return 0, 0, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, 0, err
	}
	for _, name := range names {
		target, _ := os.Readlink(dir.Name() + "/" + name)
		number, _ := strconv.Atoi(name)
		if !strings.HasPrefix(target, "socket:") {
			continue
		}
		fd, err := unix.PidfdGetfd(process, number, 0)
		if err != nil {
			return 0, 0, fmt.Errorf("look at a socket of process %d: %w", pid, err)
		}
		kind, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
		domain, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		if kind == unix.SOCK_DGRAM && (domain == unix.AF_INET || domain == unix.AF_INET6) {
			out, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
			in, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
			send, receive = max(send, out), max(receive, in)
		}
		unix.Close(fd)
	}
	return send, receive, nil
}
