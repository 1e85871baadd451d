package serve

import (
	"net"
	"time"

	"stile/tunnel/relay"
)

// A todo is what the server wants done, with the sockets to do it on.
type todo struct {
	close   []pair
	open    []relay.Port
	answers []answer
}

type answer struct {
	conn *net.UDPConn
	relay.Datagram
}

// drainLocked takes out of the server what is to be done after unlocking.
// Ports to be closed are no longer ours from here on.
func (s *shell) drainLocked() *todo {
	if !s.server.Pending() {
		return nil
	}
	var o relay.Output
	s.server.Drain(&o)
	t := &todo{open: o.Open}
	for _, port := range o.Close {
		t.close = append(t.close, s.ports[port])
		delete(s.ports, port)
	}
	for _, d := range o.Datagrams {
		t.answers = append(t.answers, answer{s.socketLocked(d.Local), d})
	}
	return t
}

// perform does it, and what follows from it.
func (s *shell) perform(t *todo) {
	for t != nil {
		for _, p := range t.close {
			p.close()
		}
		for _, a := range t.answers {
			if a.conn != nil {
				_, _ = a.conn.WriteToUDPAddrPort(a.Payload, a.Remote)
			}
		}
		t = s.openPorts(t.open)
	}
}

// openPorts opens sockets and tells the server.
func (s *shell) openPorts(ports []relay.Port) *todo {
	if len(ports) == 0 {
		return nil
	}
	opened := make([]pair, len(ports))
	failed := make([]error, len(ports))
	for i, port := range ports {
		opened[i], failed[i] = bind(s.config, port.Number, port.V4, port.V6)
		if failed[i] != nil {
			s.config.Log.Debug("port of an allocation is not free", "port", port.Number, "err", failed[i])
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, port := range ports {
		if s.stopped {
			opened[i].close()
			continue
		}
		if failed[i] == nil {
			s.ports[port.Number] = opened[i]
			s.read(port.Number, opened[i])
		}
		s.server.Opened(port.Number, failed[i] == nil, time.Now())
	}
	return s.drainLocked()
}

// stop closes all sockets, which ends their readers. No more are opened.
func (s *shell) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	s.listen.close()
	for _, p := range s.ports {
		p.close()
	}
}
