package cli

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"stile/tunnel/ipc"
)

// text is a state for people. now is the present, for ages.
func text(s *ipc.State, now time.Time) string {
	var b strings.Builder
	fmt.Fprintln(&b, headline(s.Session, now))
	if p := s.Session.Problem; p != nil {
		fmt.Fprintln(&b, clean(p.Text))
	} else if s.Session.Phase == ipc.SignedOut && s.Session.Token != "" {
		fmt.Fprintln(&b, "Connect with: stile connect")
	} else if s.Session.Phase == ipc.SignedOut {
		fmt.Fprintln(&b, "Sign in with: stile sign-in")
	}
	table(&b, "  ", facts(s))
	section(&b, "Resources", resourceRows(s.Resources))
	section(&b, "Connections", connectionRows(s.Connections, now))
	section(&b, "Counted in this session", counterRows(s.Counters))
	return b.String()
}

// headline is one line that says how far the session has come.
func headline(s ipc.Session, now time.Time) string {
	whom, since := "", ""
	if s.Actor != "" {
		whom = " as " + clean(s.Actor)
	}
	if s.Account != "" {
		whom += " (" + clean(s.Account) + ")"
	}
	if s.Token.Managed() {
		whom += " with a token of your administrator"
	}
	if !s.Since.IsZero() {
		since = ", for " + age(now.Sub(s.Since))
	}
	switch s.Phase {
	case ipc.SignedOut:
		if s.Token != "" {
			return "Not connected; signed in" + whom + "."
		}
		return "Signed out."
	case ipc.Connecting:
		return "Connecting to the portal" + whom + since + "."
	case ipc.Raising:
		return "Raising the tunnel" + whom + "."
	case ipc.Connected:
		line := "Connected" + whom + since + "."
		if !s.PortalUp {
			line += " The portal is away; what it granted goes on."
		}
		return line
	case ipc.Ending:
		return "Disconnecting."
	}
	return clean(string(s.Phase)) + "."
}

// facts are the rows that are about the whole.
func facts(s *ipc.State) (rows [][]string) {
	add := func(name string, values ...string) {
		var said []string
		for _, v := range values {
			if v != "" {
				said = append(said, clean(v))
			}
		}
		if len(said) > 0 {
			rows = append(rows, []string{name, strings.Join(said, " · ")})
		}
	}
	add("Portal", s.Session.Portal)
	add("Tunnel", s.Tunnel.Interface, address(s.Tunnel.IPv4), address(s.Tunnel.IPv6))
	if len(s.DNS.Sentinels) > 0 {
		said := append(addresses(s.DNS.Sentinels), s.DNS.Mode)
		if s.DNS.SearchDomain != "" {
			said = append(said, "search domain "+s.DNS.SearchDomain)
		}
		add("DNS", said...)
	}
	if s.Internet.Available || s.Internet.On {
		add("Internet", internet(s.Internet))
	}
	return rows
}

func internet(i ipc.Internet) string {
	switch {
	case i.On && i.Available:
		return "through the tunnel"
	case i.On:
		return "through the tunnel, once the portal offers it"
	}
	return "direct"
}

func resourceRows(list []ipc.Resource) (rows [][]string) {
	for _, r := range list {
		state := map[ipc.ResourceState]string{ipc.Unknown: "no activity", ipc.Online: "gateway connected", ipc.Offline: "all gateways offline"}[r.State]
		if state == "" {
			state = string(r.State)
		}
		if r.Problem != nil {
			state = r.Problem.Text
		}
		rows = append(rows, []string{clean(r.Name), clean(r.Address), clean(strings.Join(r.Sites, ", ")), clean(state)})
	}
	return rows
}

func connectionRows(list []ipc.Connection, now time.Time) (rows [][]string) {
	for _, c := range list {
		where := c.Site
		if where == "" {
			where = "gateway " + c.Gateway.String()[:8]
		}
		row := []string{clean(where), clean(c.State), "", "", ""}
		if c.Path != "" {
			row[1] = clean(c.Path)
			if c.State != "connected" {
				row[1] += ", " + clean(c.State)
			}
		}
		if c.RTTMicros > 0 {
			row[1] += fmt.Sprintf(", %.1f ms", float64(c.RTTMicros)/1000)
		}
		if c.Remote.IsValid() {
			row[2] = fmt.Sprintf("%v → %v", c.Local, c.Remote)
		}
		if !c.LastHandshake.IsZero() {
			row[3] = "handshake " + age(now.Sub(c.LastHandshake)) + " ago"
		}
		row[4] = fmt.Sprintf("sent %s, received %s", amount(c.Sent), amount(c.Received))
		rows = append(rows, row)
	}
	return rows
}

func counterRows(list []ipc.Counter) (rows [][]string) {
	for _, c := range list {
		rows = append(rows, []string{fmt.Sprint(c.Value), clean(c.Name)})
	}
	return rows
}

// section is a heading and a table, or nothing.
func section(w io.Writer, heading string, rows [][]string) {
	if len(rows) > 0 {
		fmt.Fprintf(w, "\n%s\n", heading)
		table(w, "  ", rows)
	}
}

// table aligns columns. A column that is empty in all rows is left out.
func table(w io.Writer, indent string, rows [][]string) {
	used := map[int]bool{}
	for _, row := range rows {
		for i, cell := range row {
			used[i] = used[i] || cell != ""
		}
	}
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	for _, row := range rows {
		var cells []string
		for i, cell := range row {
			if used[i] {
				cells = append(cells, cell)
			}
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	t.Flush()
	for line := range strings.Lines(b.String()) {
		fmt.Fprintln(w, indent+strings.TrimRight(line, " \n"))
	}
}

func address(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func addresses(list []netip.Addr) (texts []string) {
	for _, a := range list {
		texts = append(texts, a.String())
	}
	return texts
}

// age is a duration in the two units that matter: "5 s", "3 min", "2 h 5 min",
// "4 d 3 h". Clocks that disagree make no negative ones.
func age(d time.Duration) string {
	seconds := int64(max(d, 0) / time.Second)
	minutes, hours, days := seconds/60, seconds/3600, seconds/86400
	switch {
	case minutes == 0:
		return fmt.Sprintf("%d s", seconds)
	case hours == 0:
		return fmt.Sprintf("%d min", minutes)
	case days == 0:
		return fmt.Sprintf("%d h %d min", hours, minutes%60)
	}
	return fmt.Sprintf("%d d %d h", days, hours%24)
}

// amount is a number of bytes with three digits or so: "0 B", "1.5 KiB", "12 MiB".
func amount(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	for value >= 1023.5 && unit < 4 {
		value /= 1024
		unit++
	}
	if value < 9.95 {
		return fmt.Sprintf("%.1f %ciB", value, "KMGTP"[unit])
	}
	return fmt.Sprintf("%.0f %ciB", value, "KMGTP"[unit])
}

// clean makes text of others harmless to a terminal: no escape sequences, no
// lines of its own, no reversed order.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsPrint(r):
			return r
		}
		return '\ufffd'
	}, s)
}
