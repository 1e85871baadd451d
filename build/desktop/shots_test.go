package desktop

import (
	"os"
	"os/signal"
	"syscall"
	"testing"

	"stile/tunnel/ipc"
)

// TestShowForPictures is the service of shots.sh: it shows a state until it is
// ended.
func TestShowForPictures(t *testing.T) {
	state := os.Getenv("STILE_SHOW")
	if state == "" {
		return // nobody takes pictures
	}
	s := newService(t, os.Getenv("STILE_SOCKET"))
	switch state {
	case "connected", "resource":
		s.set(connected(0))
		s.set(func(s *ipc.State) { s.Session.Actor = "Ada Lovelace" })
	case "trouble":
		s.set(connected(0))
		s.set(func(s *ipc.State) {
			s.Session.Phase, s.Session.Problem = ipc.Connecting, &ipc.Problem{Code: ipc.PortalRefused, Text: "The portal refuses this device."}
		})
	case "busy", "live":
		s.set(func(s *ipc.State) { s.Session.Phase, s.Session.Token = ipc.Connecting, ipc.TokenFromSignIn })
	case "huge":
		s.set(connected(500))
	case "many":
		s.set(connected(100))
	}
	s.up()
	next, end := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(next, syscall.SIGUSR1)
	signal.Notify(end, os.Interrupt)
	for {
		select {
		case <-next:
			s.set(connected(3))
		case <-end:
			return
		}
	}
}
