package cli

import (
	"context"
	"errors"
	"fmt"

	"stile/platform/desktop"
)

type unregisterCommand struct{}

// Run takes back what the program has told the user's desktop about itself. It
// is told again by the next start of the app, or the next sign-in.
func (unregisterCommand) Run(_ context.Context, p *program) error {
	if bySudo() {
		return advice("This is about your own desktop, not root's: run it without sudo.")
	}
	if err := errors.Join(desktop.Unregister(), desktop.Unlist(), desktop.StopAtLogin()); err != nil {
		return err
	}
	fmt.Fprintln(p.out, "Your desktop knows nothing of Stile any more.")
	return nil
}
