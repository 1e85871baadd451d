package sock

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"
)

func TestFailureOf(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := closed.Addr().String()
	closed.Close()
	_, refused := net.Dial("tcp", address)
	expired, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	_, late := new(net.Dialer).DialContext(expired, "tcp", address)
	rows := []struct {
		err  error
		want Failure
	}{
		{nil, ""}, {refused, Refused}, {late, TimedOut}, {fmt.Errorf("dial: %w", context.DeadlineExceeded), TimedOut},
		{errors.New("something else"), OtherFailure},
	}
	for _, r := range failures { // as the system says it, and wrapped
		rows = append(rows, struct {
			err  error
			want Failure
		}{&net.OpError{Op: "dial", Err: r.err}, r.is})
	}
	for _, r := range rows {
		if got := FailureOf(r.err); got != r.want {
			t.Errorf("%v: %q, want %q", r.err, got, r.want)
		}
	}
}
