// Package netmon notices that the machine moved to another network.
package netmon

import (
	"context"
	"time"
)

// settle is how long a change must be over before it is reported: moving
// between networks is a burst of events.
const settle = 500 * time.Millisecond

// Watch calls changed each time the way out of this machine has become another
// one: other default routes or other addresses on the interfaces they use. The
// interface named ignore (our tunnel) does not count. It returns when ctx ends,
// or with an error if the system cannot be watched.
func Watch(ctx context.Context, ignore string, changed func()) error {
	return watch(ctx, ignore, changed)
}
