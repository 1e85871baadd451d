package tun

import (
	"testing"
	"unsafe"

	"golang.zx2c4.com/wireguard/tun"
)

// BenchmarkWireGuardTCP is BenchmarkTCP on the device of wireguard-go, which
// copies packets behind each other into buffers that must have room for that.
func BenchmarkWireGuardTCP(b *testing.B) {
	w := newWire(b, func(name string) (device, error) {
		d, err := tun.CreateTUN(name, 1280)
		return wireguard{d}, err
	})
	b.SetBytes(100 << 20)
	for b.Loop() {
		w.transfer(b, "4", 100<<20)
	}
	b.ReportMetric(float64(w.packets.Load())/float64(w.reads.Load()), "packets/read")
}

type wireguard struct{ tun.Device }

func (d wireguard) Write(packets [][]byte) (int, error) {
	const room = vnetLen
	bufs := make([][]byte, 0, batchSize)
	for _, p := range packets {
		base := (*byte)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(p)), -room))
		bufs = append(bufs, unsafe.Slice(base, room+cap(p))[:room+len(p)])
	}
	_, err := d.Device.Write(bufs, room)
	return 0, err
}
