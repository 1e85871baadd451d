package console

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

const (
	maxStreams = 12                     // of all pages together
	pace       = 250 * time.Millisecond // between two updates of one stream
	tick       = time.Second            // ages and graphs move by themselves
	heartbeat  = 15 * time.Second       // tells a browser that is gone from one that has nothing to hear
	sendTime   = 10 * time.Second       // for a browser to read
)

// A feed wakes the streams.
type feed struct {
	mu      sync.Mutex // guards all below
	changed chan struct{}
	streams int
}

// wait is a channel that closes with the next change.
func (f *feed) wait() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	return f.changed
}

func (f *feed) wake() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// enter reports whether there is room for one more stream.
func (f *feed) enter() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.streams >= maxStreams {
		return false
	}
	f.streams++
	return true
}

func (f *feed) leave() {
	f.mu.Lock()
	f.streams--
	f.mu.Unlock()
}

// live sends the parts of a page, each when it has changed.
func (c *Console) live(w http.ResponseWriter, r *http.Request, who *guest, name string) {
	if !c.feed.enter() {
		_, t := c.view()
		w.Header().Set("Retry-After", "30")
		c.refuse(w, r, http.StatusServiceUnavailable, t.Tag, t.WrongTitle, t.BusyText)
		return
	}
	defer c.feed.leave()
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	if r.Method == http.MethodHead {
		return
	}
	every := heartbeat
	if pages[name].moves {
		every = tick
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	s := &stream{c: c, w: w, out: http.NewResponseController(w), who: who, name: name, q: ask(r.URL.RawQuery), sent: map[string]string{}}
	s.out.SetReadDeadline(time.Time{}) // the request is read; its end would end the stream
	for {
		begun, changed := time.Now(), c.feed.wait() // before looking: what happens meanwhile counts
		if !s.send(r.Context()) {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-time.After(max(pace, 20*time.Since(begun))): // a twentieth of one core at most
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		case <-ticker.C:
		}
	}
}

// A stream is one on its way.
type stream struct {
	c     *Console
	w     http.ResponseWriter
	out   *http.ResponseController
	who   *guest
	name  string
	q     query
	sent  map[string]string // the parts as the browser has them
	logs  *tail             // as they were read last
	spoke time.Time
}

// send sends what has changed, and reports whether the stream goes on.
func (s *stream) send(ctx context.Context) bool {
	m := s.c.model(ctx, s.who, s.name, s.q)
	m.base().logs = s.logs
	m.fill(false)
	s.logs = m.base().logs
	b, err := parts(pages[s.name].parts, m, s.sent)
	if err != nil {
		s.c.log.Error("a part of a page cannot be made", "page", s.name, "error", err)
		return false
	}
	now := time.Now()
	if len(b) == 0 {
		if now.Sub(s.spoke) < heartbeat {
			return true
		}
		b = []byte(":\n\n")
	}
	s.spoke = now
	s.out.SetWriteDeadline(now.Add(sendTime))
	if _, err := s.w.Write(b); err != nil {
		return false
	}
	return s.out.Flush() == nil
}

// parts is one event for each part that is not as it was sent.
func parts(names []string, m model, sent map[string]string) ([]byte, error) {
	var events, b bytes.Buffer
	for _, name := range names {
		b.Reset()
		if err := layout().ExecuteTemplate(&b, "part-"+name, m); err != nil {
			return nil, err
		}
		if b.String() == sent[name] {
			continue
		}
		sent[name] = b.String()
		text, err := json.Marshal(struct {
			ID   string `json:"id"`
			HTML string `json:"html"`
		}{name, b.String()})
		if err != nil {
			return nil, err
		}
		events.WriteString("data: ")
		events.Write(text)
		events.WriteString("\n\n")
	}
	return events.Bytes(), nil
}
