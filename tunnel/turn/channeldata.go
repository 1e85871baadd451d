package turn

import "encoding/binary"

// Channel numbers in use. Relays know up to 0x7FFF, but the 2025 ones and the
// demultiplexers of stock peers stop at 0x4FFF.
const (
	MinChannel = 0x4000
	MaxChannel = 0x4FFF
)

// HeaderLen is the length of the ChannelData header: channel number and
// payload length, both 16 bits, big endian.
const HeaderLen = 4

// PutHeader writes the header of a ChannelData message with payload bytes of
// payload into b, which has room for HeaderLen bytes.
func PutHeader(b []byte, channel uint16, payload int) {
	binary.BigEndian.PutUint16(b, channel)
	binary.BigEndian.PutUint16(b[2:], uint16(payload))
}

// AppendChannelData frames one datagram for a relay, unpadded: relays that
// forward in the kernel drop anything that is longer than it says (RFC 8656
// §12.4, connectivity.md 4.6). payload is borrowed.
func AppendChannelData(dst []byte, channel uint16, payload []byte) []byte {
	var header [HeaderLen]byte
	PutHeader(header[:], channel, len(payload))
	return append(append(dst, header[:]...), payload...)
}

// ParseChannelData takes the header off. payload aliases b. False means that b
// is no ChannelData message, or one whose length is not exactly what it says.
func ParseChannelData(b []byte) (channel uint16, payload []byte, ok bool) {
	if len(b) < HeaderLen {
		return 0, nil, false
	}
	channel = binary.BigEndian.Uint16(b)
	if channel < MinChannel || channel > MaxChannel || int(binary.BigEndian.Uint16(b[2:])) != len(b)-HeaderLen {
		return 0, nil, false
	}
	return channel, b[HeaderLen:], true
}
