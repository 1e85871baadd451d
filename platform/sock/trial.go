package sock

import (
	"context"
	"net/netip"
)

// A Trial is what came of opening a TCP connection.
type Trial struct {
	Failure Failure // "": it was opened
	// By is who said so, if a message of ICMP did and the system tells.
	By netip.Addr
}

// Try opens a TCP connection as a program would, tells what came of it, and
// closes it. After ctx it has TimedOut.
func Try(ctx context.Context, to netip.AddrPort) Trial { return try(ctx, to) }
