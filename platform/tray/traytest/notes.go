package traytest

import (
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	notesName = "org.freedesktop.Notifications"
	notesPath = dbus.ObjectPath("/org/freedesktop/Notifications")
)

// A Note is a message that the desktop was asked to show.
type Note struct {
	ID      uint32
	App     string
	Title   string
	Text    string
	Actions []string
	Expires int32
	Instead uint32 // the note whose place it takes; 0: none
}

// Notes is somebody who shows messages.
type Notes struct {
	t    T
	conn *dbus.Conn

	mu      sync.Mutex // guards the rest
	list    []Note
	closed  map[uint32]bool // the notes that were taken back
	told    chan struct{}   // closed and replaced when a note comes, or is taken back
	blocked chan struct{}   // closed: answers are given; nil: at once
}

// NewNotes makes one, which is there at once.
func NewNotes(t T, bus string) *Notes { return NotesOf(t, bus, self()) }

// NotesOf makes one on the bus of another user, by number.
func NotesOf(t T, bus, user string) *Notes {
	n := &Notes{t: t, conn: connect(t, bus, user), closed: map[uint32]bool{}, told: make(chan struct{})}
	if err := n.conn.Export(notesServer{n}, notesPath, notesName); err != nil {
		t.Fatal(err)
	}
	if _, err := n.conn.RequestName(notesName, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	return n
}

// Block lets nobody have an answer until the returned function is called.
func (n *Notes) Block() (release func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	blocked := make(chan struct{})
	n.blocked = blocked
	return sync.OnceFunc(func() { close(blocked) })
}

type notesServer struct{ n *Notes }

func (s notesServer) wait() {
	s.n.mu.Lock()
	blocked := s.n.blocked
	s.n.mu.Unlock()
	if blocked != nil {
		<-blocked
	}
}

func (s notesServer) GetCapabilities() ([]string, *dbus.Error) {
	s.wait()
	return []string{"actions", "body", "body-markup"}, nil
}

func (s notesServer) Notify(app string, instead uint32, icon, title, text string, actions []string, hints map[string]dbus.Variant, expires int32) (uint32, *dbus.Error) {
	s.wait()
	n := s.n
	n.mu.Lock()
	defer n.mu.Unlock()
	id := uint32(len(n.list) + 1)
	n.list = append(n.list, Note{id, app, title, text, actions, expires, instead})
	close(n.told)
	n.told = make(chan struct{})
	return id, nil
}

func (s notesServer) CloseNotification(id uint32) *dbus.Error {
	s.wait()
	n := s.n
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed[id] = true
	close(n.told)
	n.told = make(chan struct{})
	return nil
}

// Gone waits until a note was taken back.
func (n *Notes) Gone(note Note) {
	n.t.Helper()
	limit := time.After(Patience)
	for {
		n.mu.Lock()
		told := n.told
		n.mu.Unlock()
		if n.IsGone(note) {
			return
		}
		select {
		case <-told:
		case <-limit:
			n.t.Fatalf("the note %q is still there", note.Title)
		}
	}
}

// IsGone tells whether a note was taken back.
func (n *Notes) IsGone(note Note) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.closed[note.ID]
}

// All are the notes so far.
func (n *Notes) All() []Note {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]Note(nil), n.list...)
}

// Await waits for a note with a title and returns it. Notes that came before
// count.
func (n *Notes) Await(title string) Note {
	n.t.Helper()
	limit := time.After(Patience)
	for {
		n.mu.Lock()
		list, told := n.list, n.told
		n.mu.Unlock()
		for _, one := range list {
			if one.Title == title {
				return one
			}
		}
		select {
		case <-told:
		case <-limit:
			n.t.Fatalf("no note %q, but %+v", title, list)
		}
	}
}

// Click clicks a note.
func (n *Notes) Click(note Note) {
	n.t.Helper()
	if err := n.conn.Emit(notesPath, notesName+".ActionInvoked", note.ID, "default"); err != nil {
		n.t.Fatal(err)
	}
}
