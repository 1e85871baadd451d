package sock

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"
)

func TestTry(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(l.Addr().String())
	if got := Try(t.Context(), at); got != (Trial{}) {
		t.Errorf("somebody listens: %+v", got)
	}
	l.Close()
	if got := Try(t.Context(), at); got.Failure != Refused || got.By.IsValid() {
		t.Errorf("nobody listens: %+v", got)
	}
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if got := Try(late, at); got.Failure != TimedOut {
		t.Errorf("there is no time: %+v", got)
	}
}
