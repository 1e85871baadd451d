package tray

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// notes are the messages on the desktop. Nothing waits for them: they have a
// goroutine of their own, and those that find no place in the queue are
// dropped.
type notes struct {
	*Tray
	clicks chan click // what happened to notes that are shown
}

// A click is one on a note, or, without key, its end.
type click struct {
	id  uint32
	key string
}

// lastAnswer is how long the end of the program waits for the number of a note
// that is on its way, so that it can be taken back.
const lastAnswer = 300 * time.Millisecond

// openNotes is how many notes are remembered so that they can be clicked.
const openNotes = 64

func newNotes(t *Tray) notes { return notes{t, make(chan click, openNotes)} }

// Notify shows a message. It never blocks, and where nobody shows messages it
// does nothing.
func (t *Tray) Notify(n Note) {
	select {
	case t.notes <- n:
	default:
	}
}

// heard passes on what the desktop says about notes.
func (n notes) heard(s *dbus.Signal) {
	c := click{}
	switch {
	case s.Name == notesName+".ActionInvoked" && len(s.Body) == 2:
		c.id, _ = s.Body[0].(uint32)
		c.key, _ = s.Body[1].(string)
	case s.Name == notesName+".NotificationClosed" && len(s.Body) == 2:
		c.id, _ = s.Body[0].(uint32)
	default:
		return
	}
	select {
	case n.clicks <- c:
	default:
	}
}

// deliver shows notes until ctx ends.
func (n notes) deliver(ctx context.Context) {
	open := map[uint32]Note{}
	ids := map[string]uint32{} // of the latest note by key
	for {
		select {
		case <-ctx.Done():
			for id, note := range open {
				if note.Stay {
					n.take(id)
				}
			}
			return
		case note := <-n.Tray.notes:
			if note.Title == "" {
				if id, is := ids[note.Key]; is {
					n.take(id)
					delete(open, id)
					delete(ids, note.Key)
				}
				continue
			}
			id, err := n.show(ctx, note, ids[note.Key])
			if err != nil {
				continue // the desktop shows no messages
			}
			if len(open) >= openNotes {
				delete(open, slices.Min(slices.Collect(maps.Keys(open))))
			}
			open[id], ids[note.Key] = note, id
		case c := <-n.clicks:
			note, is := open[c.id]
			if is && c.key != "" && note.Command != nil {
				n.config.Click(note.Command)
			}
			if is && c.key == "" {
				delete(open, c.id)
				if ids[note.Key] == c.id {
					delete(ids, note.Key)
				}
			}
		}
	}
}

// take takes a note back. Nobody waits for the desktop to do it.
func (n notes) take(id uint32) {
	n.conn.Object(notesName, notesPath).Go(notesName+".CloseNotification", dbus.FlagNoReplyExpected|dbus.FlagNoAutoStart, nil, id)
}

// picture is the form of the hint image-data.
type picture struct {
	Width, Height, Stride int32
	Alpha                 bool
	BitsPerSample         int32
	Channels              int32
	Pixels                []byte
}

// show has the desktop show one note, in place of the one with the number old
// if that is not 0.
func (n notes) show(ctx context.Context, note Note, old uint32) (id uint32, err error) {
	end := ctx
	if end.Err() != nil {
		return 0, end.Err()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(end), callTime)
	defer cancel()
	defer context.AfterFunc(end, func() { time.AfterFunc(lastAnswer, cancel) })()
	o := n.conn.Object(notesName, notesPath)
	var abilities []string
	if err := o.CallWithContext(ctx, notesName+".GetCapabilities", 0).Store(&abilities); err != nil {
		return 0, err
	}
	text := note.Text
	if slices.Contains(abilities, "body-markup") {
		text = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
	}
	actions := []string{}
	if note.Command != nil && slices.Contains(abilities, "actions") {
		actions = append(actions, "default", n.config.Title)
	}
	hints := map[string]dbus.Variant{"desktop-entry": dbus.MakeVariant(n.config.ID), "urgency": dbus.MakeVariant(byte(1))}
	if p, err := n.picture(); err == nil {
		hints["image-data"] = dbus.MakeVariant(p)
	}
	expires := int32(-1) // as the desktop likes
	if note.Stay {
		expires = 0 // never
	}
	err = o.CallWithContext(ctx, notesName+".Notify", 0, n.config.Title, old, "", note.Title, text, actions, hints, expires).Store(&id)
	return id, err
}

// picture is the largest of the icon.
func (n notes) picture() (picture, error) {
	n.mu.Lock()
	icon := n.icon
	n.mu.Unlock()
	if len(icon) == 0 {
		return picture{}, ErrNoDesktop
	}
	p, err := decode(icon[len(icon)-1])
	if err != nil {
		return picture{}, err
	}
	return picture{int32(p.Rect.Dx()), int32(p.Rect.Dy()), int32(p.Stride), true, 8, 4, p.Pix}, nil
}
