package tun

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// maxUDP is the largest number of UDP datagrams in one frame.
const maxUDP = 64

// lookBack is how many trains are searched for a packet's flow. A flow that is
// not found starts a new train, which costs only speed.
const lookBack = 16

// A train is a row of packets of one flow that enter the kernel as one frame.
type train struct {
	flow      uint64 // hash of addresses, ports and protocol; 0: matches nothing
	first     int16  // index of the first packet, the chain continues in next
	last      int16
	count     int
	open      bool // may grow
	verified  bool // the first packet's checksum was found right
	transport int  // offset of the transport header
	headers   int  // bytes of all headers
	size      int  // payload of each packet but the last
	total     int  // bytes of the whole frame
	protocol  uint8
}

// A coalescer finds the trains in a batch. It keeps the order of packets
// within each flow: a packet joins its flow's newest train or starts one.
type coalescer struct {
	udp    bool // UDP may be coalesced
	trains []train
	next   []int16 // the packet behind each packet, -1 at the end
}

// board sorts packets into trains, in order. It reads them only.
func (c *coalescer) board(packets [][]byte) {
	c.trains, c.next = c.trains[:0], c.next[:0]
	for i, p := range packets {
		c.next = append(c.next, -1)
		t := classify(p)
		if t.protocol == unix.IPPROTO_UDP && !c.udp {
			t.flow, t.open = 0, false
		}
		if !c.join(packets, int16(i), &t) {
			t.first, t.last, t.count = int16(i), int16(i), 1
			c.trains = append(c.trains, t)
		}
	}
}

// join appends packet i, of which t tells the shape, to the newest train of
// its flow, if it continues that.
func (c *coalescer) join(packets [][]byte, i int16, t *train) bool {
	if t.flow == 0 {
		return false
	}
	for k := len(c.trains) - 1; k >= max(0, len(c.trains)-lookBack); k-- {
		to := &c.trains[k]
		if to.flow != t.flow {
			continue
		}
		p := packets[i]
		if !to.open || !to.continues(packets[to.first], packets[to.last], p, t) {
			to.open = false
			return false
		}
		if !to.verified {
			if to.verified = to.checksumRight(packets[to.first]); !to.verified {
				to.open = false
				return false
			}
		}
		if !t.checksumRight(p) {
			t.open = false // let the receiver see it as it is
			return false
		}
		c.next[to.last] = i
		to.last = i
		to.count++
		to.total += t.size
		// A shorter packet and one that asks to be delivered end the train.
		to.open = t.open && t.size == to.size
		return true
	}
	return false
}

// classify describes a packet as a train of one. Anything but plain TCP data
// and UDP matches no flow, or is closed from the start.
func classify(p []byte) train {
	t := train{}
	var length int
	switch {
	case len(p) >= v4HeaderLen && p[0] == 0x45:
		t.transport, t.protocol, length = v4HeaderLen, p[v4Protocol], int(binary.BigEndian.Uint16(p[v4Length:]))
		if p[v4Fragment]&^dontFragment|p[v4Fragment+1] != 0 {
			return t
		}
	case len(p) >= v6HeaderLen && p[0]>>4 == 6:
		t.transport, t.protocol, length = v6HeaderLen, p[v6NextHeader], v6HeaderLen+int(binary.BigEndian.Uint16(p[v6Length:]))
	default:
		return t
	}
	if length != len(p) {
		return t
	}
	h := p[t.transport:]
	switch {
	case t.protocol == unix.IPPROTO_TCP && len(h) >= tcpHeaderLen:
		t.headers = t.transport + int(h[tcpOffset]>>4)*4
		flags := h[tcpFlags]
		t.open = flags&^flagPSH == flagACK && h[tcpOffset]&15 == 0 && t.headers >= t.transport+tcpHeaderLen
	case t.protocol == unix.IPPROTO_UDP && len(h) >= udpHeaderLen:
		t.headers = t.transport + udpHeaderLen
		t.open = int(binary.BigEndian.Uint16(h[udpLength:])) == len(h) && (h[udpChecksum]|h[udpChecksum+1]) != 0
	default:
		return t
	}
	t.flow = hash(p, h)
	t.total, t.size = len(p), len(p)-t.headers
	t.open = t.open && t.size > 0
	return t
}

// hash is never 0. Two flows may share a value: continues compares.
func hash(p, transport []byte) uint64 {
	const odd = 0x9e3779b97f4a7c15 // 2⁶⁴ divided by the golden ratio
	h := uint64(binary.NativeEndian.Uint32(transport))
	for a := addresses(p); len(a) >= 8; a = a[8:] {
		h = (h ^ binary.NativeEndian.Uint64(a)) * odd
		h ^= h >> 29
	}
	return h | 1
}

// continues reports whether p, of shape t, is the next packet after those of
// the train: the kernel would cut it out of the frame exactly as it is.
func (to *train) continues(first, last, p []byte, t *train) bool {
	if t.size > to.size || to.total+t.size > maxFrame || t.headers != to.headers || t.transport != to.transport || t.protocol != to.protocol {
		return false
	}
	if !sameIP(first, p, to.count) {
		return false
	}
	a, b := first[to.transport:to.headers], p[to.transport:to.headers]
	if t.protocol == unix.IPPROTO_UDP {
		return t.open && to.count < maxUDP && bytes.Equal(a[:udpLength], b[:udpLength])
	}
	// A packet that asks to be delivered may come last, but nothing after it.
	return t.open && last[to.transport+tcpFlags]&flagPSH == 0 &&
		bytes.Equal(a[:tcpSequence], b[:tcpSequence]) &&
		bytes.Equal(a[tcpAck:tcpFlags], b[tcpAck:tcpFlags]) &&
		bytes.Equal(a[tcpWindow:tcpChecksum], b[tcpWindow:tcpChecksum]) &&
		bytes.Equal(a[tcpChecksum+2:], b[tcpChecksum+2:]) &&
		binary.BigEndian.Uint32(b[tcpSequence:]) == binary.BigEndian.Uint32(a[tcpSequence:])+uint32(to.count*to.size)
}

// sameIP reports whether the IP header of b is that of a but for length and
// checksum, with an identification that is n later if it matters.
func sameIP(a, b []byte, n int) bool {
	if a[0]>>4 == 6 {
		return b[0]>>4 == 6 && bytes.Equal(a[:v6Length], b[:v6Length]) && bytes.Equal(a[v6NextHeader:v6HeaderLen], b[v6NextHeader:v6HeaderLen])
	}
	return bytes.Equal(a[:v4Length], b[:v4Length]) && bytes.Equal(a[v4Fragment:v4Checksum], b[v4Fragment:v4Checksum]) && bytes.Equal(addresses(a), addresses(b)) &&
		(a[v4Fragment]&dontFragment != 0 || binary.BigEndian.Uint16(b[v4ID:]) == binary.BigEndian.Uint16(a[v4ID:])+uint16(n))
}

// checksumRight verifies the transport checksum of p, of shape t. The kernel
// takes the content of a frame as right, so a packet that was damaged before
// the tunnel must not get into one.
func (t *train) checksumRight(p []byte) bool {
	transport := p[t.transport:]
	return fold(add(sum(transport, pseudo(p, t.protocol)), number(uint16(len(transport))))) == 0xffff
}

// couple turns the headers of the first packet into those of the frame and
// writes the frame's description to v. last is the last packet.
func (t *train) couple(first, last []byte, v []byte) {
	if t.count == 1 {
		clear(v[:vnetLen])
		return
	}
	udp := t.protocol == unix.IPPROTO_UDP
	h := vnet{
		flags: unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, gsoType: gsoKind(first[0]>>4 == 6, udp),
		headerLen: uint16(t.headers), gsoSize: uint16(t.size),
		checksumStart: uint16(t.transport), checksumField: tcpChecksum,
	}
	setLength(first, t.total)
	transport := first[t.transport:]
	length := t.total - t.transport
	if udp {
		h.checksumField = udpChecksum
		binary.BigEndian.PutUint16(transport[udpLength:], uint16(length))
	} else {
		transport[tcpFlags] |= last[t.transport+tcpFlags] & flagPSH
	}
	// The kernel finishes the checksum from the sum of the pseudo header.
	putSum(transport[h.checksumField:], fold(add(pseudo(first, t.protocol), number(uint16(length)))))
	h.encode(v)
}
