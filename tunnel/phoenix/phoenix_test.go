package phoenix

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"stile/tunnel/wire"
)

const (
	join  = `{"topic":"client","event":"phx_join","payload":null,"ref":0}`
	caps  = `{"topic":"client","event":"set_snownet_capabilities","payload":{"iceless":false},"ref":1}`
	okay0 = `{"topic":"client","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":0}`
)

// Sections 2.2 to 2.9 in their order. A step is an input or "→ " and what is to
// be done; outputs are compared completely, in order.
func TestChannel(t *testing.T) {
	for _, row := range []struct{ name, script string }{
		{"2.2 join, then capabilities", `
			wait 0s      → dial
			connected    → write ` + join + `
			` + okay0 + ` → write ` + caps + ` → up`},
		{"2.2 messages between upgrade and join wait, equal ones once", `
			wait 0s      → dial
			connected    → write ` + join + `
			send no_relays
			send no_relays
			` + okay0 + ` → write ` + caps + ` → write {"topic":"client","event":"no_relays","payload":{},"ref":2} → up`},
		{"2.2 confirmation that is not empty is none", `
			wait 0s      → dial
			connected    → write ` + join + `
			{"topic":"client","event":"phx_reply","payload":{"status":"ok","response":{"a":1}},"ref":0} → dropped
			{"topic":"client","event":"phx_reply","payload":{"status":"ok","response":null},"ref":0} → dropped
			wait 4.9s
			wait 0.1s    → hangup → retry 1s
			wait 1s      → dial`},
		{"2.2 confirmation of another number is none", `
			wait 0s      → dial
			connected    → write ` + join + `
			{"topic":"client","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":1}
			wait 5s      → hangup → retry 1s`},
		{"2.2 refused join is final", `
			wait 0s      → dial
			connected    → write ` + join + `
			{"topic":"client","event":"phx_reply","payload":{"status":"error","response":{"reason":"invalid_version"}},"ref":0} → hangup → fail the portal refused the join
			wait 1h
			reconnect`},
		{"2.3 unmatched topic: join again on the same socket", `
			joined
			send no_relays → write {"topic":"client","event":"no_relays","payload":{},"ref":2}
			{"topic":"client","event":"phx_reply","payload":{"status":"error","response":{"reason":"unmatched topic"}},"ref":2} → write {"topic":"client","event":"phx_join","payload":null,"ref":3}
			{"topic":"client","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":3} → write {"topic":"client","event":"set_snownet_capabilities","payload":{"iceless":false},"ref":4}`},
		{"2.3 other errors are only noted", `
			joined
			{"topic":"client","event":"phx_reply","payload":{"status":"error","response":{"reason":"disabled"}},"ref":1} → dropped
			{"topic":"client","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":1}
			{"topic":"gateway","event":"phx_reply","payload":{"status":"error","response":{"reason":"unmatched topic"}},"ref":1} → dropped
			{"topic":"client","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":null} → dropped
			{"topic":"client","event":"phx_reply","payload":null,"ref":1} → dropped`},
		{"2.4 heartbeats", `
			joined
			wait 9.9s
			wait 0.1s → write {"topic":"phoenix","event":"heartbeat","payload":{},"ref":2}
			{"topic":"phoenix","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":2}
			wait 10s → write {"topic":"phoenix","event":"heartbeat","payload":{},"ref":3}
			wait 10s → write {"topic":"phoenix","event":"heartbeat","payload":{},"ref":4}
			wait 10s → write {"topic":"phoenix","event":"heartbeat","payload":{},"ref":5}
			wait 9.9s
			wait 0.1s → hangup → down → retry ~500ms`},
		{"2.4 an answer that is not empty does not count", `
			joined
			wait 10s → write {"topic":"phoenix","event":"heartbeat","payload":{},"ref":2}
			{"topic":"phoenix","event":"phx_reply","payload":{"status":"ok","response":{"x":1}},"ref":2}
			wait 10s → write {"topic":"phoenix","event":"heartbeat","payload":{},"ref":3}
			wait 10s → write {"topic":"phoenix","event":"heartbeat","payload":{},"ref":4}
			wait 10s → hangup → down → retry ~500ms`},
		{"2.5 phx_close", `
			joined
			{"topic":"client","event":"phx_close","payload":{"x":1},"ref":null} → dropped
			{"topic":"gateway","event":"phx_close","payload":{},"ref":null} → dropped
			{"topic":"client","event":"phx_close","payload":{},"ref":null} → hangup → down → retry ~500ms`},
		{"2.5 phx_error is only noted", `
			joined
			{"topic":"client","event":"phx_error","payload":{},"ref":null} → dropped`},
		{"2.5 disconnect on any topic", `
			joined
			{"topic":"phoenix","event":"disconnect","payload":{"reason":"certificate_revoked"},"ref":null} → dropped
			{"topic":"phoenix","event":"disconnect","payload":{"reason":"token_expired"},"ref":null} → hangup → down → fail the portal rejects the token
			lost`},
		{"2.5 disconnect before the join", `
			wait 0s      → dial
			connected    → write ` + join + `
			{"topic":"client","event":"disconnect","payload":{"reason":"token_expired"}} → hangup → fail the portal rejects the token`},
		{"0.3 a broken stream", `
			joined
			{"topic":"client","event":"init" → hangup → down → retry ~500ms`},
		{"0.3 what does not parse is dropped alone", `
			joined
			{"topic":"client","event":"init","payload":{"interface":null},"ref":null} → dropped
			{"topic":"client","event":"shiny","payload":{},"ref":null} → dropped
			[1] → dropped
			{"topic":"client","event":"resource_deleted","payload":"5d1f0a3e-6f0b-4c57-9c8e-0a4d1f6b2c11","ref":null} → deliver resource_deleted`},
		{"2.7 before the first join: one second each, and no end", `
			wait 0s → dial
			lost → retry 1s
			wait 1s → dial
			lost → retry 1s
			lost
			wait 0.9s
			wait 0.1s → dial`},
		{"2.7 Retry-After replaces the delay", `
			joined
			lost → down → retry ~500ms
			wait 1s → dial
			later 90s → retry 1m30s
			wait 89s
			wait 1s → dial
			later 1000h → retry 1h0m0s`},
		{"1.6 refusal is final", `
			wait 0s → dial
			refused → fail the portal rejects the token
			wait 1h`},
		{"2.7 reconnect has no delay", `
			joined
			reconnect → hangup → down → dial
			connected → write ` + join + `
			reconnect → hangup → dial
			lost → retry ~500ms
			reconnect → dial`},
		{"2.8 while the socket is closed, messages are dropped", `
			wait 0s → dial
			send no_relays → dropped
			connected → write ` + join + `
			send no_relays
			lost → retry 1s
			send no_relays → dropped
			wait 1s → dial
			connected → write ` + join + `
			` + okay0 + ` → write ` + caps + ` → up`},
	} {
		t.Run(row.name, func(t *testing.T) { run(t, row.script) })
	}
}

func run(t *testing.T, script string) {
	now := time.Unix(1_700_000_000, 0)
	c := New(config(), now)
	for line := range strings.Lines(script) {
		parts := strings.Split(strings.TrimSpace(line), "→ ")
		input := strings.TrimSpace(parts[0])
		if input == "" {
			continue
		}
		now = step(c, input, now)
		var want []string
		for _, p := range parts[1:] {
			want = append(want, strings.TrimSpace(p))
		}
		if input == "joined" {
			continue // the way there has rows of its own
		}
		if got := show(c.Drain(nil), want); !reflect.DeepEqual(got, want) {
			t.Fatalf("after %s\ngot  %q\nwant %q", input, got, want)
		}
	}
}

func config() Config {
	return Config{
		Topic: "client", Greeting: wire.SetCapabilities{}, Rand: rand.New(rand.NewPCG(1, 2)),
		Decode: func(event string, payload []byte) (wire.Message, error) {
			return wire.DecodeForClient(wire.V2, event, payload)
		},
	}
}

func step(c *Channel, input string, now time.Time) time.Time {
	word, rest, _ := strings.Cut(input, " ")
	duration, _ := time.ParseDuration(rest)
	switch word {
	case "wait":
		now = now.Add(duration)
		c.Advance(now)
	case "connected":
		c.Connected(now)
	case "joined":
		c.Advance(now)
		c.Connected(now)
		c.Frame([]byte(okay0), now)
		c.Drain(nil)
	case "lost":
		c.Disconnected(Failure{Err: errors.New("reset by peer")}, now)
	case "later":
		c.Disconnected(Failure{Err: errors.New("503"), RetryAfter: duration}, now)
	case "refused":
		c.Disconnected(Failure{Err: ErrTokenRejected, Fatal: true}, now)
	case "reconnect":
		c.Reconnect(now)
	case "send":
		c.Send(wire.NoRelays{})
	default:
		c.Frame([]byte(input), now)
	}
	return now
}

// show writes actions as the scripts do. A wanted delay with "~" stands for
// half to one and a half of it.
func show(actions []Action, want []string) []string {
	var list []string
	for i, a := range actions {
		var s string
		switch a := a.(type) {
		case Dial:
			s = "dial"
		case Hangup:
			s = "hangup"
		case Write:
			s = "write " + string(a.Frame)
		case Up:
			s = "up"
		case Down:
			s = "down"
		case Deliver:
			s = "deliver " + a.Message.Event(wire.V2)
		case Retrying:
			s = "retry " + a.After.String()
			if i < len(want) {
				if base, err := time.ParseDuration(strings.TrimPrefix(want[i], "retry ~")); err == nil && a.After >= base/2 && a.After <= base*3/2 {
					s = want[i]
				}
			}
		case Dropped:
			s = "dropped"
		case Fail:
			s, _, _ = strings.Cut("fail "+a.Err.Error(), ":")
		default:
			s = fmt.Sprintf("%T", a)
		}
		list = append(list, s)
	}
	return list
}

// The curve of 2.7 after a join: 500 ms, × 1.5, at most 60 s, each within half
// and one and a half; a join starts it again.
func TestBackoffCurve(t *testing.T) {
	for seed := range uint64(100) {
		b := backoff{rand: rand.New(rand.NewPCG(seed, 0))}
		b.reset()
		want := 500 * time.Millisecond
		for n := range 40 {
			got, ok := b.next(0)
			if !ok || got < want/2-1 || got > want*3/2+1 {
				t.Fatalf("seed %d: delay %d is %v, want about %v", seed, n, got, want)
			}
			want = min(time.Duration(float64(want)*1.5), time.Minute)
		}
		b.reset()
		if got, _ := b.next(0); got > 750*time.Millisecond {
			t.Fatalf("seed %d: after a join %v", seed, got)
		}
	}
}

func TestNeverGivesUpBeforeTheFirstJoin(t *testing.T) {
	b := backoff{rand: rand.New(rand.NewPCG(0, 0))}
	var sum time.Duration
	for n := range 10_000 {
		d, ok := b.next(0)
		if !ok || n < 15 && d != time.Second || d > 90*time.Second {
			t.Fatalf("attempt %d: %v, %v", n, d, ok)
		}
		sum += d
	}
	if sum < 100*time.Hour {
		t.Errorf("10,000 attempts within %v: the portal would be hammered", sum)
	}
}

func TestPartitionBudgetCountsDelays(t *testing.T) {
	c := config()
	c.MaxPartition = 10 * time.Minute
	now := time.Unix(0, 0)
	ch := New(c, now)
	step(ch, "joined", now)
	var sum time.Duration
	for {
		now = now.Add(time.Hour) // time that passes while trying does not count
		ch.Disconnected(Failure{Err: errors.New("x")}, now)
		var failed error
		for _, a := range ch.Drain(nil) {
			switch a := a.(type) {
			case Retrying:
				sum += a.After
			case Fail:
				failed = a.Err
			}
		}
		if failed != nil {
			if !errors.Is(failed, ErrPartitioned) || sum < 8*time.Minute || sum > 10*time.Minute {
				t.Fatalf("%v after delays of %v", failed, sum)
			}
			return
		}
		now = ch.Next()
		ch.Advance(now)
	}
}

func TestQueueIsBounded(t *testing.T) {
	now := time.Unix(0, 0)
	c := New(config(), now)
	c.Advance(now)
	c.Connected(now)
	for n := range maxQueue + 10 {
		c.Send(wire.AuthorizationAccepted{Ref: fmt.Sprint(n)})
	}
	c.Frame([]byte(okay0), now)
	var writes, dropped int
	for _, a := range c.Drain(nil) {
		switch a.(type) {
		case Write:
			writes++
		case Dropped:
			dropped++
		}
	}
	if writes != 1+1+maxQueue || dropped != 10 {
		t.Errorf("%d written, %d dropped", writes, dropped)
	}
}

// Section 1.6, second table, newest source.
func TestRefused(t *testing.T) {
	wall := time.Date(2026, 9, 21, 14, 13, 20, 0, time.UTC)
	for _, row := range []struct {
		name  string
		r     Response
		fatal error
		after time.Duration
	}{
		{"invalid_token", Response{Status: 401, ContentType: "application/problem+json", Body: []byte(`{"code":"invalid_token"}`)}, ErrTokenRejected, 0},
		{"missing_token", Response{Status: 401, ContentType: "Application/Problem+JSON; charset=utf-8", Body: []byte(`{"code":"missing_token"}`)}, ErrTokenRejected, 0},
		{"401 of another code", Response{Status: 401, ContentType: "application/problem+json", Body: []byte(`{"code":"x"}`)}, ErrUnauthorized, 0},
		{"401 of a proxy", Response{Status: 401, ContentType: "text/html", Body: []byte(`{"code":"invalid_token"}`)}, ErrUnauthorized, 0},
		{"401 cut off", Response{Status: 401, ContentType: "application/problem+json", Body: []byte(`{"code":"inva`)}, ErrUnauthorized, 0},
		{"403", Response{Status: 403}, nil, 0},
		{"404", Response{Status: 404}, nil, 0},
		{"409 of a gateway", Response{Status: 409, RetryAfter: "7"}, nil, 7 * time.Second},
		{"429", Response{Status: 429, RetryAfter: "Mon, 21 Sep 2026 14:14:20 GMT"}, nil, time.Minute},
		{"503, date in the past", Response{Status: 503, RetryAfter: "Mon, 21 Sep 2026 14:12:20 GMT"}, nil, 0},
		{"503, nonsense", Response{Status: 503, RetryAfter: "-5"}, nil, 0},
		{"301", Response{Status: 301}, nil, 0},
		{"200", Response{Status: 200}, nil, 0},
	} {
		got := Refused(row.r, wall)
		if got.Fatal != (row.fatal != nil) || row.fatal != nil && !errors.Is(got.Err, row.fatal) || got.RetryAfter != row.after || got.Err == nil {
			t.Errorf("%s: %+v, want %v, %v", row.name, got, row.fatal, row.after)
		}
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(okay0, "")
	f.Add(okay0, `{"topic":"client","event":"phx_reply","payload":{"status":"error","response":{"reason":"unmatched topic"}},"ref":1}`)
	f.Add(`{"topic":"client","event":"disconnect"}`, `{"topic":"client","event":"phx_close","payload":{}}`)
	f.Fuzz(func(t *testing.T, first, second string) {
		now := time.Unix(0, 0)
		c := New(config(), now)
		c.Advance(now)
		c.Connected(now)
		for _, frame := range []string{first, second} {
			c.Frame([]byte(frame), now)
		}
		for range 20 { // whatever was said, the channel is dead or goes on
			if now = c.Next(); now.IsZero() {
				break
			}
			c.Advance(now)
			c.Disconnected(Failure{Err: errors.New("x")}, now)
		}
		if last := c.Drain(nil); c.state == dead && len(last) == 0 {
			t.Fatal("died in silence")
		}
	})
}
