package path

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"stile/tunnel/ice"
	"stile/tunnel/id"
	"stile/tunnel/turn"
)

// introduce gives a new connection all candidates known so far: our addresses
// as any relay saw them, and those on one relay.
func (n *Node) introduce(c *connection, now time.Time) {
	for _, r := range n.relays.list {
		for _, event := range r.allocation.Known() {
			if m, ok := event.(turn.Mapped); ok {
				n.addLocals(c, mapped(m), now)
			}
		}
	}
	n.relays.orphans++
	n.choose(c, now)
}

// addLocals adds candidates of ours and has those signalled that are news.
func (n *Node) addLocals(c *connection, candidates []ice.Candidate, now time.Time) {
	for _, candidate := range candidates {
		if added, ok := c.agent.AddLocal(candidate, now); ok {
			c.add = append(c.add, added)
			n.unsaidBy(c)
			n.wake(c, now)
		}
	}
}

// AddCandidates takes candidates that a peer signalled. Malformed ones, those
// of an unknown peer, and those that carry the ufrag of another connection are
// ignored.
func (n *Node) AddCandidates(p id.Peer, texts []string, now time.Time) {
	c := n.peers[p]
	if c == nil {
		return
	}
	for _, candidate := range c.parse(texts) {
		c.signalled = true
		c.agent.AddRemote(candidate, now)
		n.wake(c, now)
	}
	n.prebind(c, now)
	n.touch(c, now)
}

// RemoveCandidates takes candidates that a peer withdrew.
func (n *Node) RemoveCandidates(p id.Peer, texts []string, now time.Time) {
	c := n.peers[p]
	if c == nil {
		return
	}
	for _, candidate := range c.parse(texts) {
		c.agent.RemoveRemote(candidate, now)
		n.wake(c, now)
	}
	n.touch(c, now)
}

func (c *connection) parse(texts []string) []ice.Candidate {
	var candidates []ice.Candidate
	for _, text := range texts {
		candidate, ufrag, err := ice.Parse(text)
		if err == nil && (ufrag == "" || ufrag == c.peer.Remote.Username) {
			candidates = append(candidates, candidate)
		}
	}
	return candidates
}

// unsaidBy notes that a connection has candidates to signal.
func (n *Node) unsaidBy(c *connection) {
	if !c.unsaid {
		c.unsaid = true
		n.unsaid = append(n.unsaid, c)
	}
}

// signal turns what was learnt since the last time into one message for each
// peer, additions first, unless the portal cannot be reached.
func (n *Node) signal() {
	if !n.portalUp {
		return
	}
	for _, c := range n.unsaid {
		if len(c.add) > 0 {
			n.out.Events = append(n.out.Events, Candidates{Peer: c.peer.ID, Texts: c.texts(c.add)})
		}
		if len(c.withdraw) > 0 {
			n.out.Events = append(n.out.Events, Candidates{Peer: c.peer.ID, Texts: c.texts(c.withdraw), Invalidate: true})
		}
		c.add, c.withdraw, c.unsaid = nil, nil, false
	}
	n.unsaid = n.unsaid[:0]
}

// texts writes candidates in the order that peers expect: by priority, ties by
// text.
func (c *connection) texts(list []ice.Candidate) []string {
	slices.SortFunc(list, func(a, b ice.Candidate) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), strings.Compare(a.Text(""), b.Text("")))
	})
	texts := make([]string, 0, len(list))
	for _, candidate := range slices.Compact(list) {
		texts = append(texts, candidate.Text(c.peer.Local.Username))
	}
	return texts
}
