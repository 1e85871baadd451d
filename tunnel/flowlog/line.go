package flowlog

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/packet"
)

// timeFormat is RFC 3339 in UTC with milliseconds.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// maxText bounds a text of a line in bytes.
const maxText = 256

// appendLine appends a flow as a JSON object and a line feed. offset is what to
// add to the gateway's time to have the calendar's. Fields come in this order;
// those that are not known, or mean nothing for the protocol, are left out:
//
//	time           of what happened, RFC 3339, UTC, milliseconds
//	kind           "started", "ended", "denied"; of the log itself: "lost"
//	reason         of an end or a denial, a few words
//	direction      of a denial: "out", the client sent it, or "in"
//	client         ID of the device
//	client_ip      its tunnel address
//	client_port    TCP and UDP; echo_id: ICMP
//	actor          e-mail address or name of who uses the device
//	actor_id       policy_id
//	resource       name of the resource; resource_id
//	name           what the client resolved
//	protocol       "tcp", "udp", "icmp", "icmpv6", a number; "any": see below
//	proxy_ip       what the client sends to, if it is not real_ip
//	real_ip        the resource's address
//	port           the resource's
//	outside_port   the client's port as the resource sees it, if another; outside_echo_id
//	packets_out    from the client, with bytes_out, packets_in, bytes_in
//	duration       seconds since the session, or the first of the packets
//
// A denial's packets are those since the line before of the same kind. Of
// protocol "any" it stands for packets to many places.
func appendLine(b []byte, f *core.Flow, offset time.Duration) []byte {
	b = append(b, `{"time":"`...)
	b = f.At.Add(offset).UTC().AppendFormat(b, timeFormat)
	b = append(b, `","kind":"`...)
	b = append(append(b, f.Kind.String()...), '"')
	b = appendText(b, "reason", f.Reason)
	if f.Kind == core.FlowDenied {
		b = appendText(b, "direction", direction(f.Inbound))
	}
	b = appendID(b, "client", f.Client)
	if f.ClientAddr.IsValid() {
		b = f.ClientAddr.AppendTo(append(b, `,"client_ip":"`...))
		b = append(b, '"')
	}
	b = appendPort(b, "client_port", "echo_id", f.Proto, f.ClientPort)
	if g := f.Grant; g != nil {
		b = appendText(b, "actor", g.ActorName)
		b = appendID(b, "actor_id", g.Actor)
		b = appendID(b, "policy_id", g.Policy)
		b = appendText(b, "resource", g.ResourceName)
		b = appendID(b, "resource_id", g.Resource)
	}
	b = appendText(b, "name", f.Name)
	b = appendProtocol(append(b, `,"protocol":"`...), f.Proto)
	b = append(b, '"')
	b = appendPlaces(b, f)
	b = appendNumber(b, "packets_out", f.PacketsOut)
	b = appendNumber(b, "bytes_out", f.BytesOut)
	b = appendNumber(b, "packets_in", f.PacketsIn)
	b = appendNumber(b, "bytes_in", f.BytesIn)
	if f.Kind != core.FlowStarted && !f.Started.IsZero() {
		b = append(b, `,"duration":`...)
		b = strconv.AppendFloat(b, max(0, f.At.Sub(f.Started)).Round(time.Millisecond).Seconds(), 'f', -1, 64)
	}
	return append(b, "}\n"...)
}

func direction(inbound bool) string {
	if inbound {
		return "in"
	}
	return "out"
}

func appendPlaces(b []byte, f *core.Flow) []byte {
	if f.Proxy.IsValid() && f.Proxy != f.Real {
		b = f.Proxy.AppendTo(append(b, `,"proxy_ip":"`...))
		b = append(b, '"')
	}
	if f.Real.IsValid() {
		b = f.Real.AppendTo(append(b, `,"real_ip":"`...))
		b = append(b, '"')
	}
	if f.Port != 0 {
		b = appendNumber(b, "port", uint64(f.Port))
	}
	if f.Outside != 0 && f.Outside != f.ClientPort {
		b = appendPort(b, "outside_port", "outside_echo_id", f.Proto, f.Outside)
	}
	return b
}

// appendLost tells of lines that are missing.
func appendLost(b []byte, n uint64, now time.Time) []byte {
	b = append(b, `{"time":"`...)
	b = now.UTC().AppendFormat(b, timeFormat)
	b = append(b, `","kind":"lost"`...)
	return append(appendNumber(b, "lines", n), "}\n"...)
}

func appendProtocol(b []byte, p packet.Proto) []byte {
	switch p {
	case 0:
		return append(b, "any"...)
	case packet.TCP:
		return append(b, "tcp"...)
	case packet.UDP:
		return append(b, "udp"...)
	case packet.ICMP:
		return append(b, "icmp"...)
	case packet.ICMPv6:
		return append(b, "icmpv6"...)
	}
	return strconv.AppendUint(b, uint64(p), 10)
}

// appendPort appends the client's end of a flow, if the protocol has one.
func appendPort(b []byte, port, echo string, p packet.Proto, n uint16) []byte {
	switch {
	case p == packet.ICMP, p == packet.ICMPv6:
		return appendNumber(b, echo, uint64(n))
	case n == 0:
		return b
	}
	return appendNumber(b, port, uint64(n))
}

func appendNumber(b []byte, name string, n uint64) []byte {
	b = append(append(append(b, ',', '"'), name...), `":`...)
	return strconv.AppendUint(b, n, 10)
}

func appendID[K any](b []byte, name string, i id.ID[K]) []byte {
	if i.IsZero() {
		return b
	}
	b = append(append(append(b, ',', '"'), name...), `":"`...)
	b, _ = i.AppendText(b) // it never fails
	return append(b, '"')
}

// appendText appends a text that came from a portal or a client.
func appendText(b []byte, name, text string) []byte {
	if text == "" {
		return b
	}
	b = append(append(append(b, ',', '"'), name...), `":`...)
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	if isPlain(text) {
		return append(append(append(b, '"'), text...), '"')
	}
	quoted, err := json.Marshal(text)
	if err != nil { // a string can always be encoded
		return append(b, `""`...)
	}
	return append(b, quoted...)
}

// isPlain reports whether JSON has text as it is.
func isPlain(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
