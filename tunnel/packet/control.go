package packet

import "encoding/binary"

const controlHeaderLen = 8

// AppendControl appends an in-tunnel control packet: an IPv6 packet from :: to
// :: with next header 255 and hop limit 0; its first byte is the event, seven
// zero bytes and the payload follow (spec connectivity.md 5.1). payload is
// borrowed; with more than 1232 bytes the packet is longer than MaxSize.
func AppendControl(dst []byte, event byte, payload []byte) []byte {
	var header [headerLen6 + controlHeaderLen]byte
	header[0] = 0x60
	binary.BigEndian.PutUint16(header[4:], uint16(controlHeaderLen+len(payload)))
	header[6] = byte(control)
	header[headerLen6] = event
	dst = append(dst, header[:]...)
	return append(dst, payload...)
}

// Control returns the content of an in-tunnel control packet; ok is false for
// everything else. payload aliases the packet.
func (p Packet) Control() (event byte, payload []byte, ok bool) {
	// Extension headers in front make it an ordinary packet.
	if p.proto != control || p.version != 6 || p.transport != headerLen6 || len(p.b) < headerLen6+controlHeaderLen {
		return 0, nil, false
	}
	if [32]byte(p.b[8:40]) != [32]byte{} {
		return 0, nil, false
	}
	return p.b[headerLen6], p.b[headerLen6+controlHeaderLen:], true
}
