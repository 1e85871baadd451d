//go:build !linux

package sock

import (
	"context"
	"net"
	"net/netip"
)

func try(ctx context.Context, to netip.AddrPort) (t Trial) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", to.String())
	if err == nil {
		conn.Close()
		return Trial{}
	}
	if t.Failure = FailureOf(err); ctx.Err() != nil {
		t.Failure = TimedOut
	}
	return t
}
