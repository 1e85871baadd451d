package tun

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/windows"
	"golang.zx2c4.com/wireguard/tun"
)

// adapter identifies our network adapter, so that Windows keeps the settings
// that belong to it from one start to the next.
var adapter = windows.GUID{Data1: 0x5c1f8a3e, Data2: 0x7d42, Data3: 0x4b6a, Data4: [8]byte{0x9e, 0x31, 0x2f, 0x60, 0xd4, 0x8b, 0xa7, 0x15}}

// Device is a Wintun adapter. One goroutine may read at a time; writing is
// safe for concurrent use.
type Device struct {
	device tun.Device
	name   string
	mu     sync.Mutex // Wintun wants one writer at a time
}

// Open creates the adapter with the given name. It disappears when it is
// closed. The MTU belongs to its IPv4 and IPv6 interfaces, which package route
// sets up.
func Open(name string, mtu int) (*Device, error) {
	tun.WintunTunnelType = "Stile"
	device, err := tun.CreateTUNWithRequestedGUID(name, &adapter, mtu)
	switch {
	case errors.Is(err, windows.ERROR_MOD_NOT_FOUND), errors.Is(err, windows.ERROR_FILE_NOT_FOUND):
		return nil, fmt.Errorf("create tunnel device %s: %w: wintun.dll is missing beside the program, install Stile again (%w)", name, ErrNoDriver, err)
	case errors.Is(err, windows.ERROR_ACCESS_DENIED):
		return nil, fmt.Errorf("create tunnel device %s: %w: run as administrator or as a service (%w)", name, ErrPermission, err)
	case errors.Is(err, windows.ERROR_ALREADY_EXISTS), errors.Is(err, windows.ERROR_SHARING_VIOLATION):
		return nil, fmt.Errorf("create tunnel device %s: %w: stop the other client on this machine first (%w)", name, ErrBusy, err)
	case err != nil:
		return nil, fmt.Errorf("create tunnel device %s: %w", name, err)
	}
	return &Device{device: device, name: name}, nil
}

// Name returns the name of the adapter.
func (d *Device) Name() string { return d.name }

// Offloads tells that Wintun has none.
func (d *Device) Offloads() Offloads { return Offloads{} }

// BatchSize returns how many buffers Read should get.
func (d *Device) BatchSize() int { return d.device.BatchSize() }

// Close removes the adapter and unblocks all calls; they return os.ErrClosed.
func (d *Device) Close() error { return d.device.Close() }

// Read waits for a packet and writes it to bufs[0][offset:] and its size to
// sizes[0].
func (d *Device) Read(bufs [][]byte, sizes []int, offset int) (n int, err error) {
	return d.device.Read(bufs, sizes, offset)
}

// Write hands packets to Windows, in order. The packets are borrowed. Packets
// that find the ring full are lost without a word; after an error all that are
// left are lost.
func (d *Device) Write(packets [][]byte) (lost int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.device.Write(packets, 0)
	if errors.Is(err, os.ErrClosed) {
		return len(packets), os.ErrClosed
	}
	return len(packets) - n, err
}
