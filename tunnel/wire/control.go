package wire

import (
	"errors"
	"fmt"
	"net/netip"

	"stile/tunnel/id"
)

// Event types of in-tunnel control packets (spec connectivity.md 5.2).
const (
	EventAssignedIPs  = 0 // client → gateway: AssignedIPs
	EventDomainStatus = 1 // gateway → client: DomainStatus
	EventGoodbye      = 2 // both: empty payload
)

// maxControl is the largest payload: 1280 bytes less the IPv6 header and the
// eight bytes of event type (connectivity.md 5.1).
const maxControl = 1280 - 48

// maxProxyIPs is twice what any client sends.
const maxProxyIPs = 16

// AssignedIPs tells a gateway which proxy addresses the client's resolver
// handed out for a name (connectivity.md 5.2).
type AssignedIPs struct {
	Resource id.Resource
	Domain   string // fully expanded, without trailing dot, at most 253 bytes
	// ProxyIPs are 4 IPv4 and 4 IPv6 addresses, or 4 of one family for a
	// resource of one stack; in no order that counts.
	ProxyIPs []netip.Addr
}

// ParseAssignedIPs reads the payload of an EventAssignedIPs packet. Whether
// the addresses lie in the proxy ranges is the reader's to check. b is
// borrowed.
func ParseAssignedIPs(b []byte) (AssignedIPs, error) {
	var a AssignedIPs
	err := readControl(b, func(o *object) {
		o.need(&a.Resource, "resource")
		o.need(&a.Domain, "domain")
		o.fail("domain", checkDomain(a.Domain))
		for _, ip := range needList[anyAddr](o, "proxy_ips") {
			a.ProxyIPs = append(a.ProxyIPs, netip.Addr(ip))
		}
		if len(a.ProxyIPs) > maxProxyIPs {
			o.fail("proxy_ips", errors.New("has too many addresses"))
		}
	})
	if err != nil {
		return AssignedIPs{}, fmt.Errorf("assigned IPs: %w", err)
	}
	return a, nil
}

// Append appends the payload to dst.
func (a AssignedIPs) Append(dst []byte) []byte {
	w := &writer{b: dst}
	w.object(func() {
		w.field("resource", a.Resource)
		w.field("domain", a.Domain)
		values(w, "proxy_ips", a.ProxyIPs)
	})
	return w.b
}

// DomainStatus answers AssignedIPs.
type DomainStatus struct {
	Resource id.Resource
	Domain   string // as in AssignedIPs
	Active   bool   // "Active"; any other text on the wire is inactive
	// V4 and V6 tell for which families the name has addresses. Only our own
	// gateways say it, if they are told to (spec gateway-nat.md O2).
	V4, V6 Optional
}

// An Optional is a truth value that need not be there.
type Optional uint8

const (
	Unsaid Optional = iota // the member is absent
	Yes
	No
)

// ParseDomainStatus reads the payload of an EventDomainStatus packet. b is
// borrowed.
func ParseDomainStatus(b []byte) (DomainStatus, error) {
	var d DomainStatus
	err := readControl(b, func(o *object) {
		var status string
		o.need(&d.Resource, "resource")
		o.need(&d.Domain, "domain")
		o.fail("domain", checkDomain(d.Domain))
		o.need(&status, "status")
		d.Active = status == "Active"
		d.V4, d.V6 = o.optional("v4"), o.optional("v6")
	})
	if err != nil {
		return DomainStatus{}, fmt.Errorf("domain status: %w", err)
	}
	return d, nil
}

// Append appends the payload to dst.
func (d DomainStatus) Append(dst []byte) []byte {
	status := "Inactive"
	if d.Active {
		status = "Active"
	}
	w := &writer{b: dst}
	w.object(func() {
		w.field("resource", d.Resource)
		w.field("domain", d.Domain)
		w.field("status", status)
		w.truth("v4", d.V4)
		w.truth("v6", d.V6)
	})
	return w.b
}

// optional reads a truth value that may be absent. Anything else is as good as
// absent: others may mean something else by the name.
func (o *object) optional(name string) Optional {
	switch string(o.find(name)) {
	case "true":
		return Yes
	case "false":
		return No
	}
	return Unsaid
}

// truth writes a truth value if there is one.
func (w *writer) truth(name string, v Optional) {
	if v != Unsaid {
		w.field(name, v == Yes)
	}
}

func readControl(b []byte, read func(*object)) error {
	if len(b) > maxControl {
		return errors.New("longer than a packet")
	}
	return readMessage(b, read)
}
