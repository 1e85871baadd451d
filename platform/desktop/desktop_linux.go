package desktop

import (
	"os"
	"os/exec"
	"syscall"
)

// opener starts the browser in a session of its own, so that it survives the
// Ctrl-C of a user who has seen enough.
func opener(address string) (*exec.Cmd, error) {
	if os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "" {
		return nil, ErrNoDesktop // xdg-open would start a browser in the terminal
	}
	c, err := firstOf(address, []string{"xdg-open"}, []string{"gio", "open"}, []string{"sensible-browser"})
	if err == nil {
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	}
	return c, err
}
