package ice

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// What makes a pair suspect: unanswered checks, 3 to 4.5 s of silence at the
// pace of an active client and one chance in a thousand at 10 % loss; or three
// checks of such a client that did not arrive.
const (
	suspectRun     = 4
	suspectSilence = 5 * time.Second
)

// recentRequest keeps a pair alive that does not answer: the peer is there,
// its answers are lost.
const recentRequest = 15 * time.Second

// A pair is a way to be tried: from a local base to a remote address. Its
// attempts are counted, not kept; only the last few can still be answered.
type pair struct {
	local    Candidate
	remote   *remote
	priority uint64

	remembered int       // attempts made, Profile.Attempts at most
	run        int       // how many of the last ones were not answered
	runStart   time.Time // when the first of these was made
	last       time.Time // when the last attempt was made
	due        time.Time // when the next one is
	recent     [8]attempt
	sent       uint64 // attempts ever made; recent[sent%8] is the next slot

	rtt       time.Duration // smoothed; 0: no answer yet
	succeeded bool          // the peer answered, once
	nominated uint64        // order of nomination; 0: not nominated
	announced bool          // a check with USE-CANDIDATE was sent

	requested time.Time // last authenticated request of the peer
	triggered time.Time // last time such a request made us check at once
}

type attempt struct {
	id TransactionID
	at time.Time
}

func (p *pair) base() netip.AddrPort { return p.local.Base }

// join pairs two candidates and has the pair checked at once. Of two pairs
// with the same base and remote address the better one stays, and it keeps
// what is known about the way (connectivity.md 3.6).
func (a *Agent) join(l Candidate, r *remote, now time.Time) {
	if l.Addr.Addr().Is4() != r.Addr.Addr().Is4() {
		return
	}
	priority := a.rank(l, r)
	for _, p := range a.pairs {
		if p.base() == l.Base && p.remote.Addr == r.Addr {
			if priority > p.priority {
				p.local, p.remote = l, r
				a.sort(now)
			}
			return
		}
	}
	a.pairs = append(a.pairs, &pair{local: l, remote: r, priority: priority, due: now})
	a.sort(now)
	if len(a.pairs) > maxPairs {
		worst := len(a.pairs) - 1
		if a.pairs[worst] == a.selected {
			worst--
		}
		a.pairs = slices.Delete(a.pairs, worst, worst+1)
	}
	a.reckon(now)
}

func (a *Agent) rank(l Candidate, r *remote) uint64 {
	if a.config.Controlling {
		return pairPriority(l.Priority, r.Priority)
	}
	return pairPriority(r.Priority, l.Priority)
}

// sort ranks the pairs anew, which may change the nomination.
func (a *Agent) sort(now time.Time) {
	for _, p := range a.pairs {
		p.priority = a.rank(p.local, p.remote)
	}
	slices.SortStableFunc(a.pairs, func(p, q *pair) int { return cmp.Compare(q.priority, p.priority) })
	a.elect(now)
}

// drop removes pairs and nominates anew if the nominated one is among them.
func (a *Agent) drop(condition func(*pair) bool, now time.Time) {
	a.pairs = slices.DeleteFunc(a.pairs, condition)
	a.elect(now)
	a.reckon(now)
}

func (a *Agent) find(base, addr netip.AddrPort) *pair {
	for _, p := range a.pairs {
		if p.base() == base && p.remote.Addr == addr {
			return p
		}
	}
	return nil
}

// elect settles which pair is used (connectivity.md 3.10). Controlling: the
// best that ever succeeded and still answers, or else the best that ever
// succeeded. Controlled: the best the peer nominated and still checks, or else
// the best it nominated; of equals the later, as when the peer's NAT gave it a
// new address.
func (a *Agent) elect(now time.Time) {
	best := a.best(func(p *pair) bool { return !a.suspect(p, now) })
	if best == nil {
		best = a.best(func(*pair) bool { return true })
	}
	a.selected = best
	if best != nil && best.nominated == 0 {
		a.nominate(best)
		best.due = now // tell the peer ahead of everything else
	}
}

func (a *Agent) best(condition func(*pair) bool) *pair {
	var best *pair
	for _, p := range a.pairs {
		switch {
		case !condition(p):
		case a.config.Controlling && p.succeeded && best == nil:
			best = p
		case !a.config.Controlling && p.nominated > 0 &&
			(best == nil || p.priority == best.priority && p.nominated > best.nominated):
			best = p
		}
	}
	return best
}

// suspect reports whether a pair is probably gone, long before it is given up:
// waiting for that would mean 16 s of silence while another pair works, and
// minutes of it for the patient controlled side. The controlling agent goes by
// answers to its checks; the controlled one, which checks rarely, by the
// peer's checks.
func (a *Agent) suspect(p *pair, now time.Time) bool {
	if a.config.Controlling {
		return p.run >= suspectRun
	}
	return now.Sub(a.silentSince(p)) > a.silence()
}

// silentSince is when the peer last checked a pair, or changed its pace.
func (a *Agent) silentSince(p *pair) time.Time {
	if p.requested.Before(a.paced) {
		return a.paced
	}
	return p.requested
}

// silence is how long the peer may leave a pair unchecked.
func (a *Agent) silence() time.Duration { return max(suspectSilence, 3*a.profile.InitialRTO) }

func (a *Agent) nominate(p *pair) {
	a.elected++
	p.nominated = a.elected
}

// schedule sets when the pair is checked next (connectivity.md 3.9).
func (p *pair) schedule(profile Profile, now time.Time) {
	if p.remembered == 0 {
		p.due = now
		return
	}
	n := p.remembered
	if p.run > 0 && now.Sub(p.runStart) > profile.MaxRTO/2 {
		n = p.run
	}
	p.due = p.last.Add(profile.delay(n))
	if latest := now.Add(profile.MaxRTO); p.due.After(latest) {
		p.due = latest
	}
}

// dead reports whether a pair that is due is to be given up instead.
func (p *pair) dead(profile Profile, now time.Time) bool {
	return p.run >= profile.Attempts && !p.last.Add(profile.delay(profile.Attempts)).After(now) &&
		(p.requested.IsZero() || now.Sub(p.requested) >= recentRequest)
}

// attempt notes that a check with this ID is being sent.
func (p *pair) attempt(id TransactionID, profile Profile, now time.Time) {
	if p.run == 0 {
		p.runStart = now
	}
	p.run = min(p.run+1, profile.Attempts)
	p.remembered = min(p.remembered+1, profile.Attempts)
	p.recent[p.sent%uint64(len(p.recent))] = attempt{id, now}
	p.sent++
	p.last = now
	p.schedule(profile, now)
}

// answered notes a response; false means that no recent attempt has this ID.
func (p *pair) answered(id TransactionID, profile Profile, now time.Time) bool {
	for later := range min(p.sent, uint64(len(p.recent))) {
		if p.recent[(p.sent-1-later)%uint64(len(p.recent))].id != id {
			continue
		}
		p.measure(now.Sub(p.recent[(p.sent-1-later)%uint64(len(p.recent))].at))
		if int(later) < p.run {
			p.run = int(later)
			if later > 0 {
				p.runStart = p.recent[(p.sent-later)%uint64(len(p.recent))].at
			}
			p.schedule(profile, now)
		}
		p.succeeded = true
		return true
	}
	return false
}

// measure takes the round trip of one check; one of many counts an eighth (RFC
// 6298 §2).
func (p *pair) measure(trip time.Duration) {
	if p.rtt == 0 {
		p.rtt = trip
	}
	p.rtt += (trip - p.rtt) / 8
}
