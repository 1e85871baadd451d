package tun

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// vnetLen is the size of struct virtio_net_hdr, which precedes every frame:
// flags, GSO type (1 byte each); header length, GSO size, checksum start,
// checksum offset (2 bytes each, in the byte order of the machine).
const vnetLen = 10

// maxFrame is the largest IP packet.
const maxFrame = 65535

type vnet struct {
	flags, gsoType               uint8
	headerLen, gsoSize           uint16
	checksumStart, checksumField uint16 // the field's offset counts from checksumStart
}

func (v *vnet) decode(b []byte) {
	*v = vnet{
		flags: b[0], gsoType: b[1],
		headerLen: binary.NativeEndian.Uint16(b[2:]), gsoSize: binary.NativeEndian.Uint16(b[4:]),
		checksumStart: binary.NativeEndian.Uint16(b[6:]), checksumField: binary.NativeEndian.Uint16(b[8:]),
	}
}

func (v *vnet) encode(b []byte) {
	b[0], b[1] = v.flags, v.gsoType
	binary.NativeEndian.PutUint16(b[2:], v.headerLen)
	binary.NativeEndian.PutUint16(b[4:], v.gsoSize)
	binary.NativeEndian.PutUint16(b[6:], v.checksumStart)
	binary.NativeEndian.PutUint16(b[8:], v.checksumField)
}

// Offsets within the headers of IP, TCP and UDP.
const (
	v4HeaderLen, v6HeaderLen   = 20, 40
	tcpHeaderLen, udpHeaderLen = 20, 8

	v4Length, v4ID, v4Fragment, v4Protocol, v4Checksum, v4Addresses = 2, 4, 6, 9, 10, 12
	v6Length, v6NextHeader, v6Addresses                             = 4, 6, 8

	tcpSequence, tcpAck, tcpOffset, tcpFlags, tcpWindow, tcpChecksum = 4, 8, 12, 13, 14, 16
	udpLength, udpChecksum                                           = 4, 6
)

const (
	flagFIN, flagPSH, flagACK, flagCWR = 0x01, 0x08, 0x10, 0x80
	dontFragment                       = 0x40 // in the byte at v4Fragment
)

// addresses returns both addresses of an IP packet, side by side.
func addresses(p []byte) []byte {
	if p[0]>>4 == 4 {
		return p[v4Addresses:v4HeaderLen]
	}
	return p[v6Addresses:v6HeaderLen]
}

// pseudo sums the pseudo header but for the length.
func pseudo(p []byte, protocol uint8) uint64 { return sum(addresses(p), number(uint16(protocol))) }

// setLength writes the length of an IP packet into its header, and the header
// checksum of IPv4.
func setLength(p []byte, n int) {
	if p[0]>>4 == 6 {
		binary.BigEndian.PutUint16(p[v6Length:], uint16(n-v6HeaderLen))
		return
	}
	binary.BigEndian.PutUint16(p[v4Length:], uint16(n))
	p[v4Checksum], p[v4Checksum+1] = 0, 0
	putSum(p[v4Checksum:], ^fold(sum(p[:int(p[0]&15)*4], 0)))
}

// gsoKind returns the kind of frame that carries a protocol.
func gsoKind(v6, udp bool) uint8 {
	switch {
	case udp:
		return unix.VIRTIO_NET_HDR_GSO_UDP_L4
	case v6:
		return unix.VIRTIO_NET_HDR_GSO_TCPV6
	}
	return unix.VIRTIO_NET_HDR_GSO_TCPV4
}
