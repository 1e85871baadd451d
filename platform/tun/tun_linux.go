package tun

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	clonePath = "/dev/net/tun"

	// batchSize is how many packets a reader should be ready for: two of the
	// largest frames.
	batchSize = 128
)

// Device is a TUN device. One goroutine may read at a time; writing is safe
// for concurrent use.
type Device struct {
	file     *os.File
	raw      syscall.RawConn
	name     string
	offloads Offloads

	frame frame
	in    reading
	read  func(fd uintptr) bool // once, so that no call makes a closure

	mu    sync.Mutex // guards all below
	row   coalescer
	out   writing
	write func(fd uintptr) bool
}

// reading is the state of one Read.
type reading struct {
	bufs   [][]byte
	sizes  []int
	offset int
	n      int
	err    error
}

// writing is the state of one Write.
type writing struct {
	packets [][]byte
	train   int // index of the next train
	header  [vnetLen]byte
	iovecs  []unix.Iovec
	lost    int
	err     error
}

// Open creates the device with the given name and MTU in bytes. The device is
// down and disappears when it is closed. It has a single queue, so that a
// second process cannot attach to it. The error wraps ErrNoDriver,
// ErrPermission or ErrBusy where one of them is the cause.
func Open(name string, mtu int) (*Device, error) {
	fd, err := openClone()
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", clonePath, err)
	}
	d := &Device{name: name}
	if err := d.create(fd, mtu); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("create tunnel device %s: %w", name, err)
	}
	d.file = os.NewFile(uintptr(fd), clonePath) // non-blocking: waits in the runtime's poller
	if d.raw, err = d.file.SyscallConn(); err != nil {
		d.file.Close()
		return nil, err
	}
	d.row.udp = d.offloads.UDP
	d.read, d.write = d.readFrames, d.writeTrains
	return d, nil
}

func openClone() (int, error) {
	fd, err := unix.Open(clonePath, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) && makeClone() == nil {
		fd, err = unix.Open(clonePath, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return -1, fmt.Errorf("%w: run as root or with CAP_NET_ADMIN; in a container, add --cap-add NET_ADMIN --device %s (%w)", ErrPermission, clonePath, err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return -1, fmt.Errorf("%w: load the kernel module with modprobe tun; in a container, add --device %s (%w)", ErrNoDriver, clonePath, err)
	}
	return fd, err
}

// makeClone creates the device node where nobody else does, in containers
// above all.
func makeClone() error {
	if err := os.MkdirAll("/dev/net", 0o751); err != nil {
		return err
	}
	return unix.Mknod(clonePath, unix.S_IFCHR|0o600, int(unix.Mkdev(10, 200)))
}

// create makes the device behind fd.
func (d *Device) create(fd, mtu int) error {
	request, err := unix.NewIfreq(d.name)
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	switch err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: run as root or with CAP_NET_ADMIN (%w)", ErrPermission, err)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: stop the other client or gateway on this machine first (%w)", ErrBusy, err)
	case err != nil:
		return err
	}
	d.name = request.Name()
	d.offloads = setOffloads(fd)
	return setLink(d.name, mtu)
}

// setOffloads switches on as much as the kernel has: UDP came with 6.2.
func setOffloads(fd int) Offloads {
	const tcp = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	if unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tcp|unix.TUN_F_USO4|unix.TUN_F_USO6) == nil {
		return Offloads{TCP: true, UDP: true}
	}
	return Offloads{TCP: unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tcp) == nil}
}

// setLink sets the MTU. The rest of the link is platform/route's.
func setLink(name string, mtu int) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	request.SetUint32(uint32(mtu))
	if err := unix.IoctlIfreq(s, unix.SIOCSIFMTU, request); err != nil {
		return fmt.Errorf("set MTU %d: %w", mtu, err)
	}
	return nil
}

// Name returns the name of the network interface.
func (d *Device) Name() string { return d.name }

// Offloads tells what the kernel granted.
func (d *Device) Offloads() Offloads { return d.offloads }

// BatchSize returns how many buffers Read should get.
func (d *Device) BatchSize() int { return batchSize }

// Close removes the device and unblocks all calls; they return os.ErrClosed.
func (d *Device) Close() error { return d.file.Close() }

// Read waits for packets and writes them to bufs[i][offset:], one each, and
// their sizes to sizes. A size of 0 stands for a packet that did not fit. An
// error other than os.ErrClosed concerns what was read, not the device.
func (d *Device) Read(bufs [][]byte, sizes []int, offset int) (n int, err error) {
	d.in = reading{bufs: bufs, sizes: sizes, offset: offset}
	d.cut() // what the last call had no room for
	if d.in.n == 0 && d.raw.Read(d.read) != nil {
		return 0, os.ErrClosed
	}
	n, d.in.bufs = d.in.n, nil
	if n == 0 {
		err = d.in.err
	}
	return n, err
}

// readFrames reads frames until there are none or the buffers are full; false
// means that there was none at all.
func (d *Device) readFrames(fd uintptr) bool {
	for d.in.n < len(d.in.bufs) {
		n, _, errno := unix.Syscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&d.frame.buf[0])), uintptr(len(d.frame.buf)))
		switch errno {
		case 0:
			if err := d.frame.load(int(n)); err != nil {
				d.in.err = err
				return true
			}
			d.cut()
		case unix.EINTR:
		case unix.EAGAIN:
			return d.in.n > 0
		case unix.EBADFD: // somebody deleted the device
			d.in.err = fmt.Errorf("the device %s was removed: %w", d.name, os.ErrClosed)
			return true
		default:
			d.in.err = errno
			return true
		}
	}
	return true
}

// cut moves packets from the frame to the buffers.
func (d *Device) cut() {
	in := &d.in
	for d.frame.packet != nil && in.n < len(in.bufs) {
		in.sizes[in.n] = d.frame.next(in.bufs[in.n][in.offset:])
		in.n++
	}
}

// Write hands packets to the kernel, in order within each flow. The packets are
// borrowed, and their headers may be changed. A packet that the kernel refuses
// is lost, and the others are written nevertheless: lost counts them and err is
// the first reason.
func (d *Device) Write(packets [][]byte) (lost int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := &d.out
	out.lost, out.err = 0, nil
	for ; len(packets) > 0; packets = packets[len(out.packets):] {
		out.packets, out.train = packets[:min(len(packets), batchSize)], 0
		d.row.board(out.packets)
		for out.train < len(d.row.trains) {
			if d.raw.Write(d.write) != nil {
				return out.lost + len(packets), os.ErrClosed
			}
		}
	}
	return out.lost, out.err
}

func (w *writing) lose(n int, err error) {
	w.lost += n
	if w.err == nil {
		w.err = err
	}
}

// writeTrains writes from out.train on; false means that the kernel's queue is
// full.
func (d *Device) writeTrains(fd uintptr) bool {
	out := &d.out
	for out.train < len(d.row.trains) {
		t := &d.row.trains[out.train]
		d.gather(t)
		_, _, errno := unix.Syscall(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&out.iovecs[0])), uintptr(len(out.iovecs)))
		switch errno {
		case 0:
			out.train++
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			out.lose(t.count, errno)
			out.train++
		}
	}
	return true
}

// gather points the vector at the frame's description, its first packet and
// the payloads of the others.
func (d *Device) gather(t *train) {
	out := &d.out
	first := out.packets[t.first]
	t.couple(first, out.packets[t.last], out.header[:])
	out.iovecs = append(out.iovecs[:0], vector(out.header[:]), vector(first))
	for i := d.row.next[t.first]; i >= 0; i = d.row.next[i] {
		out.iovecs = append(out.iovecs, vector(out.packets[i][t.headers:]))
	}
}

func vector(b []byte) unix.Iovec {
	v := unix.Iovec{Base: unsafe.SliceData(b)}
	v.SetLen(len(b))
	return v
}
