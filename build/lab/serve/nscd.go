//go:build linux

package serve

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// NSCDSocket is where the C library looks for a cache of names.
const NSCDSocket = "/var/run/nscd/socket"

// Request types of the cache's protocol, version 2 (glibc: nscd/nscd-client.h).
const (
	nscdVersion   = 2
	nscdAddresses = 14 // of a name, in all families
)

// NSCD is a cache that the C library asks before it asks DNS, and that has one
// answer for one name: it closes l at the end of ctx.
func NSCD(ctx context.Context, l net.Listener, name string, addr netip.Addr) error {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		if reply := nscdReply(conn, name, addr); reply != nil {
			conn.Write(reply)
		}
		conn.Close() // whoever asked for something else does without us
	}
}

// nscdReply reads a request and makes the reply; nil: there is none.
func nscdReply(r io.Reader, name string, addr netip.Addr) []byte {
	var request struct{ Version, Type, Length int32 }
	if binary.Read(r, binary.NativeEndian, &request) != nil || request.Version != nscdVersion || request.Type != nscdAddresses || request.Length < 1 || request.Length > 1024 {
		return nil
	}
	key := make([]byte, request.Length)
	if _, err := io.ReadFull(r, key); err != nil || !strings.EqualFold(strings.TrimRight(string(key), "\x00"), name) {
		return nil
	}
	family := byte(unix.AF_INET)
	if addr.Is6() {
		family = unix.AF_INET6
	}
	raw := addr.AsSlice()
	var b []byte
	for _, n := range []int{nscdVersion, 1 /* found */, 1 /* address */, len(raw), 0 /* canonical name */, 0 /* error */} {
		b = binary.NativeEndian.AppendUint32(b, uint32(n))
	}
	return append(append(b, raw...), family)
}
