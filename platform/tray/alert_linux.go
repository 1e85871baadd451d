package tray

import (
	"context"
	"time"
)

// linger is how long the connection of an alert stays: some desktops take a
// message away with it.
const linger = 5 * time.Second

// Alert shows a message of a program that ends, and returns when the user had
// time to see it. Where it cannot be shown, it returns at once.
func Alert(ctx context.Context, c Config, n Note) {
	t, err := connect(c)
	if err != nil {
		return
	}
	defer t.conn.Close()
	n.Command = nil // nobody will be there
	if _, err := newNotes(t).show(ctx, n, 0); err != nil {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(linger):
	}
}
