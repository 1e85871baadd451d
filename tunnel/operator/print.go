package operator

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"stile/tunnel/gateway"
)

// printOver prints on a terminal over what is there.
func printOver(w io.Writer, print func(io.Writer)) {
	var b bytes.Buffer
	print(&b)
	io.WriteString(w, fromTheTop+strings.ReplaceAll(b.String(), "\n", "\x1b[K\n")+theRest)
}

// table aligns columns.
func table(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }

// print writes s for people.
func (s *Status) print(w io.Writer) {
	portal := "connected to the portal"
	if !s.PortalUp {
		portal = "NO CONNECTION to the portal: what is open goes on, nobody new comes in"
	}
	fmt.Fprintf(w, "Gateway %s, up %s, %s\n\n", s.Version, duration(s.Time.Sub(s.StartedAt)), portal)
	t := table(w)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "  "+name+"\t"+format+"\n", args...) }
	row("Address", "%s", addresses(s.IPv4, s.IPv6))
	row("Relays", "%s", relays(s.Relays))
	row("Sessions", "%s", count(uint64(s.Sessions)))
	row("From clients", "%s packets, %s", count(s.Carried.PacketsOut), size(s.Carried.BytesOut))
	row("To clients", "%s packets, %s", count(s.Carried.PacketsIn), size(s.Carried.BytesIn))
	row("Dropped", "%s", tally(s.Drops, "nothing"))
	row("Names", "%s", names(&s.Resolutions))
	if s.Tracked.Max > 0 {
		row("Tracked by the kernel", "%s of %s connections%s", count(uint64(s.Tracked.Count)), count(uint64(s.Tracked.Max)), map[bool]string{true: "; NEARLY FULL: new ones will be refused"}[s.Tracked.Full()])
	}
	for _, l := range s.FlowLogs {
		row("Flow log", "%s: %s lines%s", clean(l.To), count(l.Lines), map[bool]string{true: "; " + count(l.Lost) + " LOST"}[l.Lost > 0])
	}
	t.Flush()
	fmt.Fprintln(w)
	s.printClients(w)
}

func (s *Status) printClients(w io.Writer) {
	if len(s.Clients) == 0 {
		fmt.Fprintln(w, "No clients.")
		return
	}
	t := table(w)
	fmt.Fprintln(t, "CLIENT\tUSER\tWAY\tFROM\tSESSIONS\tSENT\tRECEIVED\tMAY USE")
	for i := range s.Clients {
		k := &s.Clients[i]
		from := "-"
		if k.Remote.IsValid() {
			from = k.Remote.String()
		}
		fmt.Fprintf(t, "%v\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", k.IPv4, user(k.Actor), k.State, from, k.Sessions, size(k.BytesOut), size(k.BytesIn), mayUse(k, s.Time))
	}
	t.Flush()
}

// mayUse lists a few of a client's resources.
func mayUse(k *gateway.Client, now time.Time) string {
	const few = 4
	var list []string
	for _, a := range k.Authorizations {
		text := clean(cmp.Or(a.Name, a.Address, a.Resource.String()))
		if !a.ExpiresAt.IsZero() {
			text += " until " + when(a.ExpiresAt, now)
		}
		list = append(list, text)
	}
	if more := len(list) - few; more > 0 {
		list = append(list[:few], fmt.Sprintf("%d more", more))
	}
	if len(list) == 0 && !k.KeptUntil.IsZero() {
		return "nothing; its sessions are kept until " + when(k.KeptUntil, now)
	}
	return cmp.Or(strings.Join(list, ", "), "nothing")
}

// print writes s for people.
func (s *Sessions) print(w io.Writer) {
	if len(s.Sessions) > 0 {
		t := table(w)
		fmt.Fprintln(t, "CLIENT\tUSER\tPROTOCOL\tNAME\tSENDS TO\tGOES TO\tSTATE\tAGE\tIDLE\tSENT\tRECEIVED\tENDS IN")
		for i := range s.Sessions {
			s.printSession(t, &s.Sessions[i])
		}
		t.Flush()
		fmt.Fprintln(w)
	}
	switch {
	case s.Total == 0:
		fmt.Fprintln(w, "No sessions.")
	case len(s.Sessions) < s.Matched:
		fmt.Fprintf(w, "%s of %s sessions, those with the latest packets; --limit shows more.\n", count(uint64(len(s.Sessions))), count(uint64(s.Matched)))
	case s.Matched < s.Total:
		fmt.Fprintf(w, "%s of %s sessions.\n", count(uint64(s.Matched)), count(uint64(s.Total)))
	case s.Total == 1:
		fmt.Fprintln(w, "1 session.")
	default:
		fmt.Fprintf(w, "%s sessions.\n", count(uint64(s.Total)))
	}
}

func (s *Sessions) printSession(w io.Writer, f *gateway.Session) {
	to := f.Real
	if f.Proxy.IsValid() {
		to = f.Proxy
	}
	state := f.State
	if f.ByGateway {
		state += ", by the gateway"
	}
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
		end(f.ClientIP, f.ClientPort), user(f.Actor), f.Protocol, cmp.Or(clean(f.Name), "-"), end(to, f.Port), end(f.Real, f.Port), state,
		duration(s.Time.Sub(f.StartedAt)), duration(s.Time.Sub(f.LastAt)), amount(f.PacketsOut, f.BytesOut), amount(f.PacketsIn, f.BytesIn), duration(f.EndsAt.Sub(s.Time)))
}

// print writes r for people.
func (r *Resources) print(w io.Writer) {
	if len(r.Resources) == 0 {
		fmt.Fprintln(w, "No client is authorized for a resource.")
	}
	for i := range r.Resources {
		if i > 0 {
			fmt.Fprintln(w)
		}
		r.Resources[i].print(w, r.Time)
	}
	if r.Shown < r.Matched {
		fmt.Fprintf(w, "\n%s of %s names; --limit shows more.\n", count(uint64(r.Shown)), count(uint64(r.Matched)))
	}
}

func (res *Resource) print(w io.Writer, now time.Time) {
	filters := strings.Join(res.Filters, ", ")
	head := []string{clean(res.Name), string(res.Type), clean(res.Address), cmp.Or(filters, "all ports")}
	fmt.Fprintln(w, strings.Join(slices.DeleteFunc(head, func(s string) bool { return s == "" }), "  "))
	t := table(w)
	for _, g := range res.Clients {
		until := "without end"
		if !g.ExpiresAt.IsZero() {
			until = "until " + when(g.ExpiresAt, now)
		}
		fmt.Fprintf(t, "  for %s\t%v\t%s\n", user(g.Actor), g.IPv4, until)
	}
	t.Flush()
	if len(res.Names) == 0 {
		return
	}
	t = table(w)
	fmt.Fprintln(t, "  NAME\tFOR CLIENT\tPROXY ADDRESS\tNEW SESSIONS GO TO\tWHY")
	for i := range res.Names {
		res.Names[i].print(t, now)
	}
	t.Flush()
}

// print writes a row for each proxy address; those that lead to the same place
// for the same reason share one.
func (n *Name) print(w io.Writer, now time.Time) {
	name, client := clean(n.Name), n.IPv4.String()
	for i := 0; i < len(n.Proxies); {
		p := &n.Proxies[i]
		to, reason, addrs := orNowhere(p.Real), why(p, len(n.Answer), now), p.Addr.String()
		j := i + 1
		for ; j < len(n.Proxies) && orNowhere(n.Proxies[j].Real) == to && why(&n.Proxies[j], len(n.Answer), now) == reason; j++ {
		}
		if same := n.Proxies[i+1 : j]; len(same) > 0 {
			addrs += " – " + lastPart(same[len(same)-1].Addr)
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\n", name, client, addrs, to, reason)
		name, client, i = "", "", j
	}
}

// lastPart is the end of an address, by which those of one name differ.
func lastPart(a netip.Addr) string {
	s := a.String()
	if i := strings.LastIndexAny(s, ".:"); i >= 0 {
		return s[i:]
	}
	return s
}

// why explains what a proxy address stands for.
func why(p *gateway.Proxy, answers int, now time.Time) string {
	var list []string
	switch {
	case p.HeldBy != nil && p.Waiting:
		list = append(list, fmt.Sprintf("kept until %s for %s; then %s", when(p.HeldUntil, now), holder(p.HeldBy), orNowhere(p.Pending)))
	case p.HeldBy != nil:
		list = append(list, fmt.Sprintf("in use by %s", holder(p.HeldBy)))
	case !p.Real.IsValid() && answers == 0:
		list = append(list, "DNS has no address")
	case !p.Real.IsValid():
		list = append(list, "DNS has none of this family")
	default:
		list = append(list, "as DNS answered")
	}
	for _, a := range p.Avoided {
		where := "is out of reach"
		if a.Port != 0 {
			where = fmt.Sprintf("fails on TCP port %d", a.Port)
		}
		list = append(list, fmt.Sprintf("%v %s, avoided until %s", a.Real, where, when(a.Until, now)))
	}
	return strings.Join(list, "; ")
}

func holder(h *gateway.Holder) string {
	switch h.Protocol {
	case "tcp", "udp":
		return fmt.Sprintf("%s %d → %d", h.Protocol, h.ClientPort, h.Port)
	}
	return h.Protocol
}

func orNowhere(a netip.Addr) string {
	if !a.IsValid() {
		return "nowhere"
	}
	return a.String()
}

// end is one end of a session.
func end(a netip.Addr, port uint16) string {
	if port == 0 {
		return a.String()
	}
	return netip.AddrPortFrom(a, port).String()
}

func addresses(list ...netip.Addr) string {
	var texts []string
	for _, a := range list {
		if a.IsValid() {
			texts = append(texts, a.String())
		}
	}
	return cmp.Or(strings.Join(texts, ", "), "none yet")
}

func relays(list []gateway.Relay) string {
	var texts []string
	for _, r := range list {
		switch {
		case !r.Address.IsValid():
			texts = append(texts, r.ID.String()+" (does not answer)")
		case len(r.Allocated) == 0:
			texts = append(texts, r.Address.String()+" (gives no address)")
		default:
			texts = append(texts, fmt.Sprintf("%v (%.0f ms)", r.Address, r.RTT))
		}
	}
	return cmp.Or(strings.Join(texts, ", "), "none")
}

func names(r *gateway.Resolutions) string {
	text := fmt.Sprintf("%s looked up", count(r.Addresses+r.Empty+r.Failed))
	if r.Empty > 0 {
		text += fmt.Sprintf(", %s without address", count(r.Empty))
	}
	if r.Failed > 0 {
		text += fmt.Sprintf(", %s failed", count(r.Failed))
	}
	if r.Running+r.Waiting > 0 {
		text += fmt.Sprintf("; %d being looked up, %d waiting", r.Running, r.Waiting)
	}
	return text
}

// tally lists numbers that are not zero, the largest first.
func tally(numbers map[string]uint64, none string) string {
	list := slices.SortedFunc(maps.Keys(numbers), func(a, b string) int {
		return cmp.Or(cmp.Compare(numbers[b], numbers[a]), strings.Compare(a, b))
	})
	var texts []string
	for _, name := range list {
		if n := numbers[name]; n > 0 {
			texts = append(texts, count(n)+" "+name)
		}
	}
	return cmp.Or(strings.Join(texts, ", "), none)
}

func user(name string) string { return cmp.Or(clean(name), "-") }

// clean takes out of a text from elsewhere what would drive a terminal or break
// a table.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, s)
	if r := []rune(s); len(r) > maxColumn {
		s = string(r[:maxColumn-1]) + "…"
	}
	return s
}

const maxColumn = 60

// count writes a number in groups of three digits.
func count(n uint64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// size writes bytes in the largest sensible unit of 1,000.
func size(n uint64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v := float64(n)
	for _, unit := range []string{"kB", "MB", "GB", "TB", "PB"} {
		if v /= 1000; v < 999.5 {
			if v < 9.95 {
				return fmt.Sprintf("%.1f %s", v, unit)
			}
			return fmt.Sprintf("%.0f %s", v, unit)
		}
	}
	return fmt.Sprintf("%.0f EB", v/1000)
}

func amount(packets, bytes uint64) string { return fmt.Sprintf("%s / %s", count(packets), size(bytes)) }

// duration writes the two largest units of a time.
func duration(d time.Duration) string {
	d = max(0, d).Truncate(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm %ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh %dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd %dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// when writes a time in local time; the date if it is not today.
func when(at, now time.Time) string {
	at, now = at.Local(), now.Local()
	if at.YearDay() == now.YearDay() && at.Year() == now.Year() {
		return at.Format(time.TimeOnly)
	}
	return at.Format("2006-01-02 15:04")
}
