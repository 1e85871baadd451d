package daemon

import "stile/tunnel/ipc"

// A user who signs in again as who they are, keeps all that stands: the session
// connects to the portal anew with the new token, as after an outage, and what
// was authorized with the old one stays so until that expires. If the portal
// refuses a token in place of one that was good, that one comes back.

// renew makes a session go on with the token of w. It counts as connected again
// when the portal has taken that.
func (d *daemon) renew(s *session, w wish) {
	token := w.Token
	s.renewed.Store(&token)
	s.renewing = true
	d.enter(ipc.Connecting, nil)
	s.renew(token)
}

// noteRenewal takes a step of a session into account that may be the portal's
// word about another token. It reports whether the session has to end: it has
// become another person's, who must not inherit what stands.
func (d *daemon) noteRenewal(s *session, e event) (end bool) {
	if e.portal && e.up && s.renewing {
		s.renewing = false
		d.enter(ipc.Connected, nil)
	}
	if e.configured && e.address.IsValid() {
		if s.address.IsValid() && s.address != e.address && !s.told {
			d.Log.Info("the portal takes this for another device; starting over")
			d.enter(ipc.Ending, nil)
			return true
		}
		s.address = e.address
	}
	return false
}

// proven is what to go back to if the portal refuses the token of next: the
// sign-in of w if the portal has taken it, else what was good before that.
func (d *daemon) proven(w, next wish, before *wish) *wish {
	switch {
	case next.Token == "" || w.Source.Managed() || !samePortal(w.Portal, next.Portal):
		return nil
	case d.seen().phase == ipc.Connected:
		return &w
	}
	return before
}
