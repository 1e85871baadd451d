package ipc

// ForOthers is what may be told of a state to users of the machine that the
// session is not theirs of: who holds it, so that they know whom to ask, and
// how the service is set up.
func (s State) ForOthers() State {
	return State{
		Version:  s.Version,
		Session:  Session{Phase: SignedOut, Holder: s.Session.Holder, Problem: HeldBy(s.Session.Holder)},
		Settings: s.Settings,
	}
}

// HeldBy says that another user is signed in.
func HeldBy(holder string) *Problem {
	return SayHeldByOther.With("holder", holder)
}
