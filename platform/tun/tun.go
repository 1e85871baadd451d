// Package tun opens the tunnel device and moves packets through it in batches.
//
// On Linux the kernel hands over and takes TCP and UDP in frames of up to
// 64 KiB (virtio-net segmentation offload): Read cuts a frame into packets, and
// Write gathers packets of one flow into a frame without copying them. This is
// worth a factor of 3 to 6 in throughput. Windows moves one packet at a time
// through the rings of Wintun.
package tun

import "errors"

// Each of these errors ends the program; the chain around it tells the user
// what to do about it.
var (
	// ErrNoDriver means that the system has no driver for tunnel devices.
	ErrNoDriver = errors.New("no driver for tunnel devices")
	// ErrPermission means that we may not create a tunnel device.
	ErrPermission = errors.New("not allowed to create a tunnel device")
	// ErrBusy means that another process has a device of this name open.
	ErrBusy = errors.New("the tunnel device is in use")
)

// Offloads tells which frames the kernel and we exchange.
type Offloads struct {
	TCP bool // TCP in frames, checksums left to the reader
	UDP bool // UDP too
}
