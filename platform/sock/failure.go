package sock

import (
	"context"
	"errors"
	"os"
)

// A Failure is why a connection could not be opened, as far as the system tells.
type Failure string

// Failures.
const (
	Refused            Failure = "refused"             // the host answered that nothing listens
	TimedOut           Failure = "timed-out"           // no answer
	HostUnreachable    Failure = "host-unreachable"    // a router or this host answered so
	NetworkUnreachable Failure = "network-unreachable" // there is no route, or a router answered so
	Forbidden          Failure = "forbidden"           // a firewall of this host or on the way answered so
	Reset              Failure = "reset"               // cut off while it was opened
	OtherFailure       Failure = "other"
)

// FailureOf sorts the error of a dialer; nil is "".
func FailureOf(err error) Failure {
	if err == nil {
		return ""
	}
	for _, row := range failures {
		if errors.Is(err, row.err) {
			return row.is
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return TimedOut
	}
	if timeout, is := errors.AsType[interface {
		error
		Timeout() bool
	}](err); is && timeout.Timeout() {
		return TimedOut
	}
	return OtherFailure
}

type failureRow struct {
	err error
	is  Failure
}
