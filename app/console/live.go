package console

import (
	"bytes"
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
	out := http.NewResponseController(w)
	out.SetReadDeadline(time.Time{}) // the request is read; its end would end the stream
	q, sent := ask(r.URL.RawQuery), map[string]string{}
	var logs *tail
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	spoke := time.Time{}
	for {
		changed := c.feed.wait() // before looking: what happens meanwhile counts
		m := c.model(r.Context(), who, name, q)
		m.base().logs = logs
		m.fill(false)
		logs = m.base().logs
		b, err := parts(pages[name].parts, m, sent)
		if err != nil {
			c.log.Error("a part of a page cannot be made", "page", name, "error", err)
			return
		}
		now := time.Now()
		if len(b) == 0 && now.Sub(spoke) >= heartbeat {
			b = []byte(":\n\n")
		}
		if len(b) > 0 {
			spoke = now
			out.SetWriteDeadline(now.Add(sendTime))
			if _, err := w.Write(b); err != nil {
				return
			}
			if out.Flush() != nil {
				return
			}
		}
		rest := time.NewTimer(pace)
		select {
		case <-r.Context().Done():
			rest.Stop()
			return
		case <-rest.C:
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		case <-ticker.C:
		}
	}
}

// parts is one event for each part that is not as it was sent.
func parts(names []string, m model, sent map[string]string) ([]byte, error) {
	var events, b bytes.Buffer
	for _, name := range names {
		b.Reset()
		if err := layout.ExecuteTemplate(&b, "part-"+name, m); err != nil {
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
