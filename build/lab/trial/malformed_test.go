//go:build linux

package trial

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/miekg/dns"

	"stile/tunnel/wire"
)

// mostMemory is what a program may use in these tests, in megabytes.
const mostMemory = 150

// strangePortals are connections that end badly before anybody has joined.
func strangePortals(t *testing.T) []func(http.ResponseWriter, *http.Request) {
	return []func(http.ResponseWriter, *http.Request){
		bytesFor(strings.Repeat("\x16\x03\xff garbage \r\n", 10_000)),
		bytesFor("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: wrong\r\n\r\n"),
		func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.Header().Set("Retry-After", "-7")
			w.WriteHeader(http.StatusInternalServerError)
			w.Write([]byte(`{"code":[1,2],"detail":` + strings.Repeat("[", 100_000)))
		},
		session(t, func(p *peer) { // more than a peer takes in one message
			p.text(`{"topic":"` + p.topic + `","event":"init","payload":"` + strings.Repeat("a", wire.MaxFrame) + `"}`)
			<-p.gone
		}),
		session(t, func(p *peer) { p.Write(p.ctx, websocket.MessageBinary, make([]byte, 100_000)) }),
	}
}

// TestMalformedMessages has a portal say everything that a portal must not
// say, and then what it should.
func TestMalformedMessages(t *testing.T) {
	for _, row := range []struct {
		name     string
		program  string
		messages []wire.Message
		then     func(p *peer)                               // what a portal should say
		works    func(m *machine, r *process, p *peer) error // the program does its work
	}{
		{"client", "stiled" + fakeOptions, toClients, func(p *peer) { p.push("init", withUnknowns(toClients[0])) },
			func(m *machine, _ *process, _ *peer) error { return m.resolves("wiki.corp.example") }},
		{"gateway", "stile-server gateway" + fakeOptions, toGateways, func(p *peer) { p.say(toGateways[0]) },
			func(_ *machine, _ *process, p *peer) error { return p.authorizes() }},
		{"relay", "stile-server relay --public-ip4-addr 127.0.0.1" + fakeOptions, []wire.Message{wire.RelayInit{}}, func(p *peer) { p.say(wire.RelayInit{}) },
			func(m *machine, _ *process, _ *peer) error { return m.answersSTUN() }},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel() // most of it is waiting between connections
			m := newMachine(t)
			var frames atomic.Int64 // the storm goes on for a while after its peer has left
			joined := make(chan *peer, 1)
			finish := func(p *peer) {
				row.then(p)
				select {
				case joined <- p:
				default: // it was here before
				}
				p.stay()
			}
			storm := session(t, func(p *peer) {
				for _, s := range nonsense {
					p.text(s)
				}
				for _, message := range row.messages {
					for _, payload := range damaged(message) {
						p.push(message.Event(wire.V2), payload)
						frames.Add(1)
					}
					p.push("unheard_of", []byte(`{"a":[{}]}`))
				}
				finish(p)
			})
			calm := session(t, finish) // a client that was given other addresses in the storm starts over
			var cut []func(http.ResponseWriter, *http.Request)
			for _, s := range broken {
				cut = append(cut, session(t, func(p *peer) { p.text(s); <-p.gone }))
			}
			m.fake(append(append(strangePortals(t), cut...), storm, calm)...)
			r := m.start(typed(row.program).with(token))
			var p *peer
			select {
			case p = <-joined:
			case <-r.ended:
				t.Fatalf("ended with status %d", r.status)
			case <-time.After(2 * patient):
				t.Fatal("the storm does not end")
			}
			eventually(t, func() error { return row.works(m, r, p) })
			if used := r.megabytes(); used > mostMemory {
				t.Errorf("uses %d MB", used)
			} else {
				t.Logf("%d damaged messages; uses %d MB", frames.Load(), used)
			}
			if got := r.stop(syscall.SIGTERM); got.status != 0 || strings.Contains(got.err, "panic") {
				t.Errorf("status %d", got.status)
			}
		})
	}
}

// withUnknowns adds resources of kinds nobody has heard of, damaged ones, and
// members that later portals may have.
func withUnknowns(m wire.Message) []byte {
	payload, err := wire.AppendPayload(nil, m)
	if err != nil {
		panic(err)
	}
	var tree map[string]any
	if err := json.Unmarshal(payload, &tree); err != nil {
		panic(err)
	}
	tree["resources"] = append(tree["resources"].([]any),
		map[string]any{"id": "11111111-1111-4111-8111-111111111111", "type": "quantum_tunnel", "name": "Q", "entanglement": []int{1}},
		map[string]any{"id": "22222222-2222-4222-8222-222222222222", "type": "dns", "name": "no address"},
		map[string]any{"id": "33333333-3333-4333-8333-333333333333", "type": "cidr", "name": "n", "address": "10.0.0.0/99"},
		map[string]any{"id": 7, "type": "dns"}, nil, "resource") // without a type the whole message would count for nothing (portal.md 3.1.4)
	tree["future"] = map[string]any{"a": 1}
	payload, err = json.Marshal(tree)
	if err != nil {
		panic(err)
	}
	return payload
}

// resolver is the address that the machine's programs ask for names.
func (m *machine) resolver() (string, error) {
	content, err := m.ReadFile("/etc/resolv.conf")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(content)) {
		if address, is := strings.CutPrefix(line, "nameserver "); is {
			return strings.TrimSpace(address), nil
		}
	}
	return "", errors.New("no nameserver in resolv.conf")
}

// resolves asks for a private name, as programs of the machine would.
func (m *machine) resolves(name string) error {
	server, err := m.resolver()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Second)
	defer cancel()
	conn, err := m.Dial(ctx, "udp", server+":53")
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	c := &dns.Conn{Conn: conn}
	if err := c.WriteMsg(new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)); err != nil {
		return err
	}
	reply, err := c.ReadMsg()
	if err != nil {
		return fmt.Errorf("ask %s: %w", server, err)
	}
	for _, rr := range reply.Answer {
		if a, is := rr.(*dns.A); is {
			if ip, _ := netip.AddrFromSlice(a.A.To4()); netip.MustParsePrefix("100.96.0.0/11").Contains(ip) {
				return nil
			}
		}
	}
	return fmt.Errorf("ask %s: %v", server, reply)
}

// authorizes has a gateway accept a client.
func (p *peer) authorizes() error {
	ref := fmt.Sprint("ref", time.Now().UnixNano())
	p.say(authorization(ref))
	for end := time.After(time.Second); ; {
		select {
		case f := <-p.sends:
			if f.Event == "authorization_created" && strings.Contains(string(f.Payload), ref) {
				return nil
			}
		case <-end:
			return errors.New("the gateway does not accept a client")
		}
	}
}

// answersSTUN asks the relay for our address.
func (m *machine) answersSTUN() error {
	conn, err := m.Dial(m.t.Context(), "udp", "127.0.0.1:3478")
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	request := []byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	if _, err := conn.Write(request); err != nil {
		return err
	}
	buf := make([]byte, 1500)
	n, err := conn.Read(buf)
	if err != nil {
		return fmt.Errorf("binding request: %w", err)
	}
	if n < 20 || buf[0] != 1 || buf[1] != 1 {
		return fmt.Errorf("binding request: answered by %x", buf[:n])
	}
	return nil
}
