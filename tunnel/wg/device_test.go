package wg

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/tuntest"
)

// The referee: a real wireguard-go Device at the other end, in virtual time.

// immortal keeps devices reachable: their queues are emptied by finalizers,
// which crash on channels that were made in a bubble.
var immortal []any

// A referee is a Device, a Session that talks to it, and the loop a role would
// run around the session.
type referee struct {
	t        *testing.T
	identity *Identity
	session  *Session
	public   [32]byte // the device's
	bind     *bind
	tun      *tuntest.ChannelTUN

	app       chan []byte // packets for the session to send
	nudge     chan func()
	got       chan []byte  // packets the session received
	delivered chan []byte  // packets the device received
	before    func()       // called before each handshake message is read
	seen      map[Kind]int // messages from the device, by kind
}

const (
	ourIP    = "10.0.0.1"
	deviceIP = "10.0.0.2"
)

func withReferee(t *testing.T, endpoint bool, test func(r *referee)) {
	synctest.Test(t, func(t *testing.T) {
		source := chacha(3)
		now := time.Now()
		devicePrivate, psk := key(source), key(source)
		r := &referee{
			t:        t,
			identity: NewIdentity(key(source), now, now, source),
			public:   NewIdentity(devicePrivate, now, now, source).Public(),
			bind:     &bind{in: make(chan []byte, 2048), out: make(chan []byte, 2048)},
			tun:      tuntest.NewChannelTUN(),
			app:      make(chan []byte, 16),
			nudge:    make(chan func()),
			got:      make(chan []byte, 4096), delivered: make(chan []byte, 4096),
			before: func() {},
			seen:   map[Kind]int{},
		}
		r.session = New(Config{Identity: r.identity, Remote: r.public, PSK: psk, Index: 0x7ffffe, Rand: source})
		dev := device.NewDevice(r.tun.TUN(), r.bind, device.NewLogger(device.LogLevelError, "device "))
		config := fmt.Sprintf("private_key=%s\npublic_key=%x\npreshared_key=%x\nallowed_ip=0.0.0.0/0\n",
			hex.EncodeToString(devicePrivate[:]), r.identity.Public(), psk)
		if endpoint {
			config += "endpoint=192.0.2.1:1\n"
		}
		if err := dev.IpcSet(config); err != nil {
			t.Fatal(err)
		}
		if err := dev.Up(); err != nil {
			t.Fatal(err)
		}
		immortal = append(immortal, dev, dev.LookupPeer(r.identity.Public()))

		ctx, cancel := context.WithCancel(t.Context())
		var g sync.WaitGroup
		g.Go(func() { r.loop(ctx) })
		g.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case p := <-r.tun.Inbound:
					r.delivered <- p
				}
			}
		})
		test(r)
		dev.Close()
		cancel()
		g.Wait()
	})
}

func (r *referee) loop(ctx context.Context) {
	var waiting [][]byte
	for {
		now := time.Now()
		r.session.Advance(now)
		if len(waiting) > 0 && r.session.Send() != nil {
			for _, p := range waiting {
				r.session.Sent(now)
				buf := make([]byte, len(p)+Overhead)
				copy(buf[HeaderLen:], p)
				r.bind.in <- r.session.Send().Seal(buf, len(p))
			}
			waiting = nil
		}
		for _, m := range r.session.Drain(nil) {
			r.bind.in <- m
		}
		timer := time.NewTimer(time.Hour)
		if next := r.session.Next(); !next.IsZero() {
			timer.Reset(next.Sub(now))
		}
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case f := <-r.nudge:
			f()
		case p := <-r.app:
			waiting = append(waiting, p)
		case m := <-r.bind.out:
			r.receive(m, time.Now())
		}
		timer.Stop()
	}
}

func (r *referee) receive(m []byte, now time.Time) {
	kind := Classify(m)
	r.seen[kind]++
	src := netip.MustParseAddrPort("192.0.2.2:2")
	switch kind {
	case Initiation:
		r.before()
		in, reply, ok := r.identity.Initiator(m, src, now)
		if reply != nil {
			r.bind.in <- reply
		}
		if ok && (in.Static != r.public || !r.session.Accept(in, now)) {
			r.t.Error("initiation refused")
		}
	case Response, Cookie:
		r.before()
		// Under the flood, cookies come for initiations that are not ours.
		if !r.session.Handle(m, src, now) && Index(m)>>8 == r.session.index>>8 {
			r.t.Errorf("message of kind %d refused", kind)
		}
	case Data:
		k := r.session.Find(Index(m))
		if k == nil {
			r.t.Errorf("no keys for index %x", Index(m))
			return
		}
		plain, counter, ok := k.Open(m)
		if !ok || !r.session.Received(k, counter, len(plain) == 0, now) {
			r.t.Error("data refused")
		}
		if len(plain) > 0 {
			r.got <- plain[:binary.BigEndian.Uint16(plain[2:])] // the device pads
		}
	default:
		r.t.Errorf("device sent %x", m)
	}
}

func ping(src, dst string) []byte {
	return tuntest.Ping(netip.MustParseAddr(dst), netip.MustParseAddr(src))
}

// exchange sends a packet each way and wants both to arrive within a second.
func (r *referee) exchange() {
	r.t.Helper()
	out, in := ping(ourIP, deviceIP), ping(deviceIP, ourIP)
	r.app <- out
	time.Sleep(time.Second)
	r.tun.Outbound <- in
	time.Sleep(time.Second)
	for _, side := range []struct {
		name string
		got  chan []byte
		want []byte
	}{{"device", r.delivered, out}, {"session", r.got, in}} {
		select {
		case got := <-side.got:
			if !bytes.Equal(got, side.want) {
				r.t.Errorf("%s got %x, want %x", side.name, got, side.want)
			}
		default:
			r.t.Fatalf("%s got nothing", side.name)
		}
	}
}

func (r *referee) initiate() { r.nudge <- func() { r.session.Initiate(time.Now()) } }

// count stops the loop for a moment to read what it owns.
func (r *referee) count(kind Kind) (n int) {
	r.nudge <- func() { n = r.seen[kind] }
	synctest.Wait()
	return n
}

func TestDeviceAnswersUs(t *testing.T) {
	withReferee(t, false, func(r *referee) {
		r.initiate()
		r.exchange()
		if r.count(Response) != 1 || r.count(Initiation) != 0 {
			t.Error("want one handshake, ours")
		}
	})
}

func TestDeviceCallsUs(t *testing.T) {
	withReferee(t, true, func(r *referee) {
		r.tun.Outbound <- ping(deviceIP, ourIP) // makes the device initiate
		time.Sleep(time.Second)
		if len(r.got) != 1 {
			t.Fatalf("got %d packets, want 1", len(r.got))
		}
		<-r.got
		r.exchange()
		if r.count(Initiation) != 1 {
			t.Error("want one handshake, the device's")
		}
	})
}

// Two hours of traffic cross some sixty re-keys, with nothing lost.
func TestDeviceStaysConnected(t *testing.T) {
	for _, ours := range []bool{true, false} {
		t.Run(fmt.Sprint("we initiate ", ours), func(t *testing.T) {
			withReferee(t, !ours, func(r *referee) {
				if ours {
					r.initiate()
				}
				for range 1000 {
					if ours {
						r.exchange()
					} else {
						r.tun.Outbound <- ping(deviceIP, ourIP)
						time.Sleep(time.Second)
						<-r.got
						r.app <- ping(ourIP, deviceIP)
						time.Sleep(time.Second)
						<-r.delivered
					}
					time.Sleep(5 * time.Second)
				}
				if n := r.count(Initiation) + r.count(Response); n < 50 || n > 70 {
					t.Errorf("%d handshakes in 7000 s", n)
				}
			})
		})
	}
}

// An idle session is renewed by us alone, so the first packet after hours
// needs no handshake.
func TestDeviceAfterIdleHours(t *testing.T) {
	withReferee(t, false, func(r *referee) {
		r.initiate()
		time.Sleep(3*time.Hour + time.Minute)
		if n := r.count(Response); n != 61 {
			t.Errorf("%d handshakes in 3 idle hours, want 61", n)
		}
		r.exchange()
	})
}

// One-way flows: the device keeps its own timers and must not need ours.
func TestDeviceOneWay(t *testing.T) {
	withReferee(t, false, func(r *referee) {
		r.initiate()
		for range 600 {
			r.app <- ping(ourIP, deviceIP)
			time.Sleep(time.Second)
			<-r.delivered
		}
		for range 600 {
			r.tun.Outbound <- ping(deviceIP, ourIP)
			time.Sleep(time.Second)
			<-r.got
		}
		if n := r.count(Response) + r.count(Initiation); n > 12 {
			t.Errorf("%d handshakes in 20 minutes", n)
		}
	})
}

// A device under load answers with a cookie; our retry carries MAC2.
func TestDeviceUnderLoad(t *testing.T) {
	withReferee(t, false, func(r *referee) {
		garbage := make([]byte, initiationLen-macsLen)
		binary.LittleEndian.PutUint32(garbage, uint32(Initiation))
		flood := func() {
			for i := range 1000 {
				binary.LittleEndian.PutUint32(garbage[8:], uint32(i+1))
				r.bind.in <- appendMACs(slices.Clone(garbage), mac1Key(r.public), nil)
			}
		}
		flood()
		r.initiate()
		time.Sleep(firstRetries[0] - 10*time.Millisecond)
		var cookie time.Time
		r.nudge <- func() { cookie = r.session.cookieAt }
		synctest.Wait()
		if cookie.IsZero() || r.count(Response) != 0 {
			t.Fatal("no cookie from a device under load")
		}
		flood()
		time.Sleep(time.Second)
		r.exchange()
	})
}

// The device understands our cookies.
func TestDeviceCallsUsUnderLoad(t *testing.T) {
	withReferee(t, true, func(r *referee) {
		r.before = func() { r.identity.second, r.identity.count = time.Now(), handshakesPerSecond }
		r.tun.Outbound <- ping(deviceIP, ourIP)
		time.Sleep(10 * time.Second)
		if n := r.count(Initiation); n != 2 || len(r.got) != 1 {
			t.Fatalf("%d initiations, %d packets; want the second initiation accepted", n, len(r.got))
		}
	})
}

// bind is a conn.Bind in memory.
type bind struct {
	in, out chan []byte // to and from the device
	closed  chan struct{}
}

func (b *bind) Open(uint16) ([]conn.ReceiveFunc, uint16, error) {
	closed := make(chan struct{})
	b.closed = closed
	return []conn.ReceiveFunc{func(bufs [][]byte, sizes []int, ends []conn.Endpoint) (int, error) {
		select {
		case <-closed:
			return 0, net.ErrClosed
		case m := <-b.in:
			sizes[0], ends[0] = copy(bufs[0], m), endpoint{}
			return 1, nil
		}
	}}, 1, nil
}

func (b *bind) Close() error {
	if b.closed != nil {
		close(b.closed)
		b.closed = nil
	}
	return nil
}

func (b *bind) Send(bufs [][]byte, _ conn.Endpoint) error {
	for _, m := range bufs {
		b.out <- slices.Clone(m)
	}
	return nil
}

func (b *bind) SetMark(uint32) error                        { return nil }
func (b *bind) ParseEndpoint(string) (conn.Endpoint, error) { return endpoint{}, nil }
func (b *bind) BatchSize() int                              { return 1 }

type endpoint struct{}

func (endpoint) ClearSrc()           {}
func (endpoint) SrcToString() string { return "192.0.2.2:2" }
func (endpoint) DstToString() string { return "192.0.2.1:1" }
func (endpoint) DstToBytes() []byte  { return []byte{192, 0, 2, 1, 1, 0} }
func (endpoint) DstIP() netip.Addr   { return netip.AddrFrom4([4]byte{192, 0, 2, 1}) }
func (endpoint) SrcIP() netip.Addr   { return netip.Addr{} }
