package tcp

import (
	"bytes"
	"runtime"
	"strings"
	"time"
)

// stacks is room for what all goroutines do.
var stacks = make([]byte, 1<<16)

// rest waits until all goroutines of all stacks wait for something. Time stands
// still meanwhile: what they wait for is a packet, an application or a timer, all
// of which come from the goroutine that calls. The runtime stops the world to
// say what each does, so none can hide.
func rest() {
	for looks := 1; ; looks++ {
		n := runtime.Stack(stacks, true)
		if n == len(stacks) {
			stacks = make([]byte, 2*len(stacks))
			continue
		}
		if !busy(stacks[:n]) {
			return
		}
		if looks%8 != 0 {
			runtime.Gosched()
		} else { // who stops the world all the time keeps the garbage collector from its work
			time.Sleep(10 * time.Microsecond)
		}
	}
}

// busy looks for a goroutine of a stack that does not wait. The first of the
// text is the caller's.
func busy(text []byte) bool {
	for g := range bytes.SplitSeq(text, []byte("\n\n")) {
		head, body, _ := bytes.Cut(g, []byte("\n"))
		_, state, _ := strings.Cut(string(head), "[")
		if !bytes.Contains(body, []byte("gvisor.dev/gvisor/pkg/")) || waits(state) {
			continue
		}
		if bytes.Contains(body, []byte("stile/tunnel/sim/tcp.rest(")) {
			continue
		}
		return true
	}
	return false
}

// waits reports whether a goroutine's state is to wait for another one. Who waits
// for the runtime does not: semacquire is a garbage collection that wants to begin.
func waits(state string) bool {
	for _, s := range []string{"select", "chan ", "sync."} {
		if strings.HasPrefix(state, s) {
			return true
		}
	}
	return false
}
