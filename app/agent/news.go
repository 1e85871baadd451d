package agent

import (
	"time"

	"stile/app/menu"
	"stile/app/tray"
	"stile/tunnel/id"
	"stile/tunnel/ipc"
)

// news finds out what the user has to be told: it is shown every view, and says
// each thing once. It is not safe for concurrent use.
type news struct {
	due time.Time // when there may be news without another view; zero: never

	missed  time.Time    // since when the service cannot be asked; zero: it can
	service menu.Service // what was told of it; Present: nothing
	seen    bool         // the service was there once

	elsewhere bool     // a session was seen that is not connected
	connected bool     // the user knows that it is
	problem   ipc.Code // of the session, as told

	resources map[grievance]bool // told in this session
	update    string             // version told
	bare      time.Time          // since when the desktop shows no icon; zero: it does
	panel     bool               // the lack of one was told
	missing   bool               // and that is still to be read
}

// A grievance is that a resource cannot be reached, for one reason.
type grievance struct {
	resource id.Resource
	why      ipc.Code
}

const (
	// lostPatience is how long a service may be away, such as for an update,
	// before that is worth a word.
	lostPatience = 4 * time.Second
	// panelPatience is how long a desktop may take to bring up its panel, at the
	// start and when that is restarted.
	panelPatience = 10 * time.Second
	// atOnce is how many resources are complained about at a time.
	atOnce = 3

	noTray = "no-tray" // the key of that note
)

// observe returns what is news in v. hosted tells whether the desktop shows the
// icon, nil if that is not known yet; told, that the user knows why it does not.
func (n *news) observe(v menu.View, hosted *bool, told bool, now time.Time) []tray.Note {
	n.due = time.Time{}
	if v.Quitting {
		return nil
	}
	var notes []tray.Note
	notes = append(notes, n.ofService(v, now)...)
	if v.Service == menu.Present && v.State != nil {
		notes = append(notes, n.ofSession(v)...)
		notes = append(notes, n.ofResources(v)...)
	}
	if u := v.Update; u.Version != "" && u.Version != n.update {
		n.update = u.Version
		notes = append(notes, tray.Note{Key: "update", Title: v.Words.UpdateTitle(u.Version), Text: v.Words.UpdateText, Stay: true, Command: menu.Open{URL: u.URL}})
	}
	switch {
	case hosted == nil || *hosted:
		if n.bare = (time.Time{}); n.missing {
			n.missing = false
			notes = append(notes, tray.Note{Key: noTray})
		}
	case n.bare.IsZero():
		n.bare = now
	}
	if !n.bare.IsZero() && !told && !n.panel && n.after(n.bare, panelPatience, now) {
		n.panel, n.missing = true, true
		notes = append(notes, tray.Note{Key: noTray, Title: v.Words.NoTrayTitle, Text: v.Words.NoTrayText, Stay: true, Command: menu.Show{Page: menu.StatusPage}})
	}
	return notes
}

// next returns when observe should be called even if nothing changes; the zero
// time means never.
func (n *news) next() time.Time { return n.due }

// after reports whether d has passed since then, and else sees to it that
// observe is called when it has.
func (n *news) after(then time.Time, d time.Duration, now time.Time) bool {
	at := then.Add(d)
	if !now.Before(at) {
		return true
	}
	if n.due.IsZero() || at.Before(n.due) {
		n.due = at
	}
	return false
}

// ofService tells that the service cannot be asked, and that it is back.
func (n *news) ofService(v menu.View, now time.Time) []tray.Note {
	if v.Service == menu.Present {
		told := n.service
		n.missed, n.service, n.seen = time.Time{}, menu.Present, true
		switch told {
		case menu.Looking, menu.Present:
			return nil
		case menu.Denied, menu.Outdated:
		default:
			if v.State != nil && v.State.Session.Phase == ipc.SignedOut {
				return []tray.Note{{Key: "service", Title: v.Words.BackTitle, Text: v.Words.PageText, Command: menu.Show{Page: menu.StatusPage}}}
			}
			n.connected, n.elsewhere = false, true // worth a word when it is
		}
		return []tray.Note{{Key: "service"}} // what was told is not so any more
	}
	if n.missed.IsZero() {
		n.missed = now
	}
	note := tray.Note{Key: "service", Text: v.Reason, Stay: true, Command: menu.Show{Page: menu.DiagnosticsPage}}
	told := v.Service
	switch v.Service {
	case menu.Outdated:
		note.Title, note.Text, note.Command = v.Words.AppOutdated, v.Words.OutdatedText, menu.Restart{}
	case menu.Denied:
		note.Title = v.Words.ServiceDenied
	case menu.Silent:
		note.Title = v.Words.ServiceSilent
	case menu.Looking:
		return nil
	default: // lost, missing
		if !n.after(n.missed, lostPatience, now) {
			return nil
		}
		told = menu.Lost
		note.Title = v.Words.ServiceMissing
		if n.seen {
			note.Title, note.Text = v.Words.ServiceLostTitle, v.Words.ServiceLostText
		}
	}
	if n.service == told {
		return nil
	}
	n.service = told
	return []tray.Note{note}
}

// ofSession tells that the session is there, and that it needs the user, for as
// long as it does.
func (n *news) ofSession(v menu.View) []tray.Note {
	s, told := &v.State.Session, n.problem
	if s.Problem == nil || s.Problem.Code != told {
		n.problem = ""
	}
	notes := n.ofPhase(v)
	if told != "" && n.problem == "" && notes == nil {
		return []tray.Note{{Key: "session"}}
	}
	return notes
}

// ofPhase is ofSession without what is taken back.
func (n *news) ofPhase(v menu.View) []tray.Note {
	s := &v.State.Session
	if s.Phase == ipc.Connected {
		tell := n.elsewhere && !n.connected
		n.connected, n.elsewhere = true, false
		if tell {
			return []tray.Note{{Key: "session", Title: v.Words.ConnectedTitle, Text: v.Words.ConnectedText, Command: menu.Show{Page: menu.ResourcesPage}}}
		}
		return nil
	}
	n.elsewhere = true
	n.resources = nil
	if s.Phase == ipc.SignedOut || s.Phase == ipc.Ending {
		n.connected = false
	}
	if s.Problem == nil || n.problem == s.Problem.Code {
		return nil
	}
	note := tray.Note{Key: "session", Text: v.Words.Problem(s.Problem), Stay: true, Command: menu.Show{Page: menu.DiagnosticsPage}}
	switch s.Problem.Code {
	case ipc.TokenRejected:
		note.Title, note.Text, note.Command = v.Words.SignInAgainTitle, v.Words.SignInAgainText, menu.SignIn{}
	case ipc.PortalChanged:
		note.Title, note.Command = v.Words.PortalChanged, menu.SignIn{}
	case ipc.PortalRefused:
		note.Title = v.Words.PortalRefused
	case ipc.TunnelFailed:
		note.Title = v.Words.TunnelFailed
	default: // nothing that the user could do
		return nil
	}
	n.problem, n.connected = s.Problem.Code, false
	return []tray.Note{note}
}

// ofResources tells of resources that cannot be reached, once for each and each
// reason in a session.
func (n *news) ofResources(v menu.View) []tray.Note {
	if v.State.Session.Phase != ipc.Connected {
		return nil
	}
	var notes []tray.Note
	for i := range v.State.Resources {
		r := &v.State.Resources[i]
		if r.Problem == nil || r.Problem.Code != ipc.SiteOffline && r.Problem.Code != ipc.GatewayTooOld {
			continue
		}
		g := grievance{r.ID, r.Problem.Code}
		if n.resources[g] {
			continue
		}
		if n.resources == nil {
			n.resources = map[grievance]bool{}
		}
		n.resources[g] = true
		if len(notes) == atOnce {
			continue
		}
		site := ""
		if len(r.Sites) > 0 {
			site = r.Sites[0]
		}
		text := v.Words.SiteOfflineText(site)
		if r.Problem.Code == ipc.GatewayTooOld {
			text = v.Words.GatewayOldText(site)
		}
		notes = append(notes, tray.Note{Key: "resource/" + r.ID.String(), Title: v.Words.UnreachableTitle(menu.Name(r)), Text: text, Command: menu.Show{Page: menu.ResourcesPage}})
	}
	return notes
}
