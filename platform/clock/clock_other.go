//go:build !linux && !windows

package clock

import "time"

// origin anchors the monotonic clock of the Go runtime. Whether it counts
// sleep is up to the system.
var origin = time.Now()

func sinceBoot() time.Duration { return time.Since(origin) }
