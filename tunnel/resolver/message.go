package resolver

import (
	"encoding/binary"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

const (
	headerLen = 12
	flagQR    = 0x80 // byte 2
	flagTC    = 0x02 // byte 2
	flagRD    = 0x01 // byte 2
	opcodes   = 0x78 // byte 2

	// maxUDP is the largest UDP payload towards an application: the MTU of
	// the TUN device less the longest IP header and the UDP header (1).
	maxUDP = 1212
	// plainUDP is the limit for applications that do not speak EDNS (RFC 1035
	// §4.2.1).
	plainUDP = 512
	// ttl of what we answer ourselves, in seconds: resources come and go.
	ttl = 1
)

// limitOf returns the largest forwarded answer q's sender can take (7.3).
func limitOf(q *dns.Msg) int {
	if opt := q.IsEdns0(); opt != nil {
		return min(maxUDP, max(plainUDP, int(opt.UDPSize())))
	}
	return plainUDP
}

// synthesize builds an answer of our own (7.1). It is always far below 512
// bytes: one question, at most eight addresses, names compressed. It is nil if
// the question cannot be repeated.
func synthesize(q *dns.Msg, rcode int, records []dns.RR) []byte {
	var m dns.Msg
	m.SetReply(q)
	m.Rcode = rcode
	m.RecursionAvailable = true // some stub resolvers complain without
	m.CheckingDisabled = q.CheckingDisabled
	m.Answer = records
	m.Compress = true
	if opt := q.IsEdns0(); opt != nil {
		m.SetEdns0(maxUDP, opt.Do())
		if opt.Version() != 0 {
			m.Answer = nil
			m.Rcode = dns.RcodeBadVers // Pack splits it between header and OPT
		}
	}
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	return b
}

// addressRecords are A and AAAA records that say: owner has these addresses.
func addressRecords(owner string, list []netip.Addr) []dns.RR {
	records := make([]dns.RR, len(list))
	for i, a := range list {
		header := dns.RR_Header{Name: owner, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}
		if a.Is4() {
			records[i] = &dns.A{Hdr: header, A: a.AsSlice()}
			continue
		}
		header.Rrtype = dns.TypeAAAA
		records[i] = &dns.AAAA{Hdr: header, AAAA: a.AsSlice()}
	}
	return records
}

func pointerRecord(owner, fqdn string) dns.RR {
	return &dns.PTR{Hdr: dns.RR_Header{Name: owner, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: ttl}, Ptr: fqdn + "."}
}

// bare answers a query of which only the header can be relied on.
func bare(query []byte, rcode int) []byte {
	b := make([]byte, headerLen)
	copy(b, query[:2])
	b[2] = flagQR | query[2]&(opcodes|flagRD)
	b[3] = byte(rcode)
	return b
}

// failure answers a well-formed query with SERVFAIL.
func failure(query []byte) []byte {
	b := question1(query)
	b[2] = flagQR | query[2]&(opcodes|flagRD)
	b[3] = query[3]&0x10 | 0x80 | dns.RcodeServerFailure // CD copied, RA
	return b
}

// relay makes an upstream's reply the answer to query: its own ID is restored,
// and what is longer than limit bytes is cut, so that the application comes
// back over TCP. reply and query are borrowed.
func relay(reply, query []byte, limit int) []byte {
	var b []byte
	if len(reply) <= limit {
		b = append(b, reply...)
	} else {
		// Header of the reply, question of the query: that they are the same
		// question was checked where the reply came in.
		b = question1(query)
		copy(b[2:4], reply[2:4])
		b[2] |= flagTC
	}
	copy(b, query[:2])
	return b
}

// question1 copies header and question of a well-formed query; counts of all
// other sections become zero.
func question1(query []byte) []byte {
	b := append([]byte(nil), query[:questionEnd(query)]...)
	binary.BigEndian.PutUint16(b[4:], 1)
	clear(b[6:headerLen])
	return b
}

// questionEnd returns the offset behind the first question of a message that
// has a header; 0 if it is cut off, or its name points elsewhere, as there is
// nothing before it to point to.
func questionEnd(b []byte) int {
	for end := headerLen; end < len(b) && b[end]&0xc0 == 0; end += 1 + int(b[end]) {
		if b[end] == 0 {
			if end += 5; end <= len(b) { // root label, type, class
				return end
			}
			return 0
		}
	}
	return 0
}

// parseReverse reads the address in a name for reverse look-up: exactly four
// decimal labels before in-addr.arpa, or 32 nibbles before ip6.arpa, in lower
// case and without the root's dot.
func parseReverse(name string) (netip.Addr, bool) {
	if v4, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		labels := strings.Split(v4, ".")
		if len(labels) != 4 {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(labels[3] + "." + labels[2] + "." + labels[1] + "." + labels[0])
		return a, err == nil
	}
	v6, ok := strings.CutSuffix(name, ".ip6.arpa")
	if !ok || len(v6) != 63 {
		return netip.Addr{}, false
	}
	var b [16]byte
	for i := range 32 {
		nibble := strings.IndexByte("0123456789abcdef", v6[62-2*i])
		if nibble < 0 || i > 0 && v6[63-2*i] != '.' {
			return netip.Addr{}, false
		}
		b[i/2] = b[i/2]<<4 | byte(nibble)
	}
	return netip.AddrFrom16(b), true
}
