package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
)

func (i *Interface) read(o *object) {
	o.need((*v4)(&i.IPv4), "ipv4")
	o.need((*v6)(&i.IPv6), "ipv6")
	i.UpstreamDo53 = objects(o, false, func(a *netip.Addr, o *object) {
		o.need((*anyAddr)(a), "ip")
	}, "upstream_do53")
	i.UpstreamDoH = objects(o, false, func(url *string, o *object) {
		o.need(url, "url")
		o.fail("url", checkDoH(*url))
	}, "upstream_doh")
	i.UpstreamDNS = objects(o, false, func(a *netip.AddrPort, o *object) {
		var protocol string
		o.need(&protocol, "protocol")
		if protocol != "ip_port" {
			o.fail("protocol", errors.New("is unknown"))
		}
		o.need((*socket)(a), "address")
	}, "upstream_dns")
	o.nullable(&i.SearchDomain, "search_domain")
	if i.SearchDomain != "" {
		o.fail("search_domain", checkSearchDomain(i.SearchDomain))
	}
}

func (i *Interface) write(w *writer) {
	w.addr("ipv4", i.IPv4)
	w.addr("ipv6", i.IPv6)
	writeList(w, "upstream_do53", i.UpstreamDo53, func(a netip.Addr) {
		w.object(func() { w.addr("ip", a) })
	})
	writeList(w, "upstream_doh", i.UpstreamDoH, func(url string) {
		w.object(func() { w.field("url", url) })
	})
	writeList(w, "upstream_dns", i.UpstreamDNS, func(a netip.AddrPort) {
		w.object(func() {
			w.field("protocol", "ip_port")
			w.field("address", a)
		})
	})
	w.nullableString("search_domain", i.SearchDomain)
}

// nullableString appends null for "".
func (w *writer) nullableString(name, s string) {
	if s == "" {
		w.field(name, nil)
		return
	}
	w.field(name, s)
}

// relays reads a list of relays and leaves out those of type "stun", which no
// current peer uses.
func relays(o *object, required bool, name string) []Relay {
	var list []Relay
	o.list(required, func(v json.RawMessage) error {
		var r Relay
		var kind string
		err := readObject(v, func(o *object) { kind = r.read(o) })
		if err == nil && kind == "turn" {
			list = append(list, r)
		}
		return err
	}, []string{name})
	return list
}

func (r *Relay) read(o *object) (kind string) {
	o.need(&kind, "type")
	if kind != "turn" && kind != "stun" {
		o.fail("type", errors.New("is unknown"))
	}
	o.need(&r.ID, "id")
	o.need((*socket)(&r.Addr), "addr")
	if kind == "stun" {
		return kind
	}
	o.need(&r.Username, "username")
	o.need(&r.Password, "password")
	o.need(&r.ExpiresAt, "expires_at")
	return kind
}

func (w *writer) relays(name string, list []Relay) {
	writeList(w, name, list, func(r Relay) {
		w.object(func() {
			w.field("id", r.ID)
			w.field("type", "turn")
			w.field("addr", r.Addr)
			w.field("username", r.Username)
			w.field("password", r.Password)
			w.field("expires_at", r.ExpiresAt)
		})
	})
}

func (f *Filter) read(o *object) {
	var protocol string
	o.need(&protocol, "protocol")
	switch protocol {
	case "icmp":
		f.Protocol = ICMP
		return
	case "tcp":
		f.Protocol = TCP
	case "udp":
		f.Protocol = UDP
	default:
		o.fail("protocol", errors.New("is unknown"))
		return
	}
	f.First, f.Last = 0, 65535
	o.may(&f.First, "port_range_start")
	o.may(&f.Last, "port_range_end")
}

func (w *writer) filters(list []Filter) {
	writeList(w, "filters", list, func(f Filter) {
		w.object(func() {
			w.field("protocol", f.Protocol.String())
			if f.Protocol == ICMP || f.First == 0 && f.Last == 65535 {
				return
			}
			w.field("port_range_start", f.First)
			w.field("port_range_end", f.Last)
		})
	})
}

// errResourceType marks a resource of a type that this package does not know.
var errResourceType = errors.New("unknown type of resource")

func (r *Resource) read(o *object) {
	o.need(&r.Type, "type")
	switch r.Type {
	case DNS, CIDR:
		o.need(&r.Name, "name")
		r.readAddress(o)
		o.nullable(&r.Description, "address_description")
		r.readSites(o)
		if r.Type == DNS {
			r.readIPStack(o)
		}
	case Internet:
		r.Name = "Internet Resource"
		o.may(&r.Name, "name")
		r.readSites(o)
	case StaticDevicePool:
		o.need(&r.Name, "name")
		r.Devices = objects(o, false, (*PoolDevice).read, "devices")
	case DynamicDevicePool:
		o.need(&r.Name, "name")
		r.readAddress(o)
	default:
		if o.err == nil {
			o.err = errResourceType
		}
		return
	}
	o.need(&r.ID, "id")
	r.Filters = objects(o, false, (*Filter).read, "filters")
}

func (r *Resource) readAddress(o *object) {
	o.need(&r.Address, "address")
	o.fail("address", checkAddress(r.Type, r.Address))
}

// checkAddress bounds a pattern, whose grammar is package policy's matter, and
// checks a prefix.
func checkAddress(t ResourceType, address string) error {
	if t == CIDR {
		return checkPrefix(address)
	}
	if address == "" || len(address) > 1024 {
		return errors.New("not a pattern for names")
	}
	return nil
}

func (r *Resource) readSites(o *object) {
	r.Sites = objects(o, true, func(s *Site, o *object) {
		o.need(&s.ID, "id")
		o.need(&s.Name, "name")
	}, "gateway_groups", "sites")
}

func (r *Resource) readIPStack(o *object) {
	o.nullable(&r.IPStack, "ip_stack")
	switch r.IPStack {
	case "", Dual, IPv4Only, IPv6Only:
	default:
		o.fail("ip_stack", errors.New("is unknown"))
	}
}

func (d *PoolDevice) read(o *object) {
	o.need(&d.Client, "client_id", "id")
	o.need((*host4)(&d.IPv4), "ipv4")
	o.need((*host6)(&d.IPv6), "ipv6")
}

// resources reads the list of an init: what is malformed or unknown is left
// out and counted, but a resource without a type spoils the message (3.1.4).
func resources(o *object) (list []Resource, skipped int) {
	o.list(false, func(v json.RawMessage) error {
		o := parseObject(v)
		if o.err == nil && o.find("type") == nil {
			return fmt.Errorf("%q %w", "type", errMissing)
		}
		var r Resource
		if o.err == nil {
			r.read(o)
		}
		if o.err != nil {
			skipped++
			return nil
		}
		list = append(list, r)
		return nil
	}, []string{"resources"})
	return list, skipped
}

func (r *Resource) write(w *writer) {
	w.field("id", r.ID)
	w.field("type", r.Type)
	w.field("name", r.Name)
	switch r.Type {
	case DNS, CIDR:
		w.field("address", r.Address)
		w.nullableString("address_description", r.Description)
		w.sites(r.Sites)
		if r.Type == DNS && r.IPStack != "" {
			w.field("ip_stack", r.IPStack)
		}
	case Internet:
		w.sites(r.Sites)
		w.field("can_be_disabled", true)
		return // an Internet resource has no filters (9.3)
	case StaticDevicePool:
		writeList(w, "devices", r.Devices, func(d PoolDevice) {
			w.object(func() {
				w.field("client_id", d.Client)
				w.field("ipv4", netip.PrefixFrom(d.IPv4, 32))
				w.field("ipv6", netip.PrefixFrom(d.IPv6, 128))
			})
		})
	case DynamicDevicePool:
		w.field("address", r.Address)
	}
	w.filters(r.Filters)
}

// sites uses the older name, which every release understands (0.3).
func (w *writer) sites(list []Site) {
	writeList(w, "gateway_groups", list, func(s Site) {
		w.object(func() {
			w.field("id", s.ID)
			w.field("name", s.Name)
		})
	})
}

func (r *GatewayResource) read(o *object) {
	o.need(&r.Type, "type")
	o.need(&r.ID, "id")
	switch r.Type {
	case Internet:
	case DNS, CIDR:
		o.need(&r.Name, "name")
		o.need(&r.Address, "address")
		o.fail("address", checkAddress(r.Type, r.Address))
		r.Filters = objects(o, true, (*Filter).read, "filters")
	default:
		o.fail("type", errors.New("is unknown"))
	}
}

func (r *GatewayResource) write(w *writer) {
	w.field("id", r.ID)
	w.field("type", r.Type)
	if r.Type == Internet {
		return
	}
	w.field("name", r.Name)
	w.field("address", r.Address)
	w.filters(r.Filters)
}

func (c *ICECredentials) read(o *object) {
	o.need(&c.Username, "username")
	o.need(&c.Password, "password")
}

func (w *writer) ice(name string, c ICECredentials) {
	w.key(name)
	w.object(func() {
		w.field("username", c.Username)
		w.field("password", c.Password)
	})
}

func (a *Authorization) read(o *object) {
	o.need(&a.Client, "client_id")
	o.need(&a.Resource, "resource_id")
	o.need(&a.ExpiresAt, "expires_at")
}

func authorizations(o *object) []Authorization {
	return objects(o, false, (*Authorization).read, "authorizations")
}

func (w *writer) authorizations(list []Authorization) {
	writeList(w, "authorizations", list, func(a Authorization) {
		w.object(func() {
			w.field("client_id", a.Client)
			w.field("resource_id", a.Resource)
			w.field("expires_at", a.ExpiresAt)
		})
	})
}

// readFlowLogs reads what V2 requires and V1 ignores.
func readFlowLogs(o *object, v Version) *FlowLogs {
	if v == V1 {
		return nil
	}
	f := &FlowLogs{}
	o.needObject("flow_logs", func(o *object) {
		o.need(&f.APIURL, "api_url")
		o.need(&f.UploadIntervalSecs, "upload_interval_secs")
		o.need(&f.UploadBatchSize, "upload_batch_size")
	})
	return f
}

func (w *writer) flowLogs(f *FlowLogs) {
	if f == nil {
		return
	}
	w.key("flow_logs")
	w.object(func() {
		w.field("api_url", f.APIURL)
		w.field("upload_interval_secs", f.UploadIntervalSecs)
		w.field("upload_batch_size", f.UploadBatchSize)
	})
}
