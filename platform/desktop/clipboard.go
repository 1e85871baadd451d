package desktop

import (
	"context"
	"errors"
	"time"
)

// ErrNoClipboard means that nothing on this desktop takes a text to copy: the
// user has to install something, unless there is an X server.
var ErrNoClipboard = errors.New("nothing here can copy to the clipboard: install wl-clipboard (Wayland), or xclip or xsel (X11)")

// copyTime is how long the clipboard may take.
const copyTime = 5 * time.Second

// Copy puts text on the user's clipboard. It is not an argument of any command.
func Copy(ctx context.Context, text string) error {
	ctx, cancel := context.WithTimeout(ctx, copyTime)
	defer cancel()
	return copyText(ctx, text)
}
