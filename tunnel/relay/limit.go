package relay

import (
	"crypto/sha256"
	"net/netip"
	"time"
)

const (
	limiterSlots = 4096
	// answersPerSecond is how many requests of one address are answered
	// before it has shown a nonce: the address may be forged and the answer
	// hit its owner.
	answersPerSecond = 100
)

// A limiter counts answers by source address in a table of fixed size.
// Addresses that share a slot share the limit; nobody can choose to, for the
// slot depends on a secret.
type limiter struct {
	key    [32]byte
	second time.Time
	counts [limiterSlots]uint16
}

// allow counts one answer to a and reports whether it may be given.
func (l *limiter) allow(a netip.Addr, now time.Time) bool {
	if now.Sub(l.second) >= time.Second {
		l.second = now
		clear(l.counts[:])
	}
	var text [32 + 16]byte
	copy(text[:], l.key[:])
	network := household(a).Addr().As16()
	copy(text[32:], network[:])
	sum := sha256.Sum256(text[:])
	n := &l.counts[(uint(sum[0])|uint(sum[1])<<8)%limiterSlots]
	if *n >= answersPerSecond {
		return false
	}
	*n++
	return true
}

// household is what one subscriber has: an IPv4 address, or 64 bits of IPv6.
func household(a netip.Addr) netip.Prefix {
	bits := 64
	if a.Is4() {
		bits = 32
	}
	return netip.PrefixFrom(a.WithZone(""), bits).Masked()
}
