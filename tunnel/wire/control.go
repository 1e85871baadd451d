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
}

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
	})
	return w.b
}

func readControl(b []byte, read func(*object)) error {
	if len(b) > maxControl {
		return errors.New("longer than a packet")
	}
	return readMessage(b, read)
}
