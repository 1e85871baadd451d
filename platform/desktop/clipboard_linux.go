package desktop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/godbus/dbus/v5"
)

// A way of copying works where an environment variable says so.
type copier struct {
	needs   string
	command []string
}

// copiers read the text from their standard input, and go on in the background
// for as long as it is on the clipboard.
var copiers = []copier{
	{"WAYLAND_DISPLAY", []string{"wl-copy", "--type", "text/plain;charset=utf-8"}},
	{"DISPLAY", []string{"xclip", "-selection", "clipboard", "-in"}},
	{"DISPLAY", []string{"xsel", "--clipboard", "--input"}},
}

func copyText(ctx context.Context, text string) error {
	failure := ErrNoClipboard
	for _, c := range copiers {
		if os.Getenv(c.needs) == "" {
			continue
		}
		path, err := exec.LookPath(c.command[0])
		if err != nil {
			continue
		}
		command := exec.CommandContext(ctx, path, c.command[1:]...)
		command.Stdin = strings.NewReader(text)
		command.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it outlives us
		if err = command.Run(); err == nil {
			return nil
		}
		failure = fmt.Errorf("copy with %s: %w", c.command[0], err)
	}
	if klipper(ctx, text) == nil || copyX11(ctx, text) == nil {
		return nil
	}
	return failure
}

// klipper asks KDE's clipboard.
func klipper(ctx context.Context, text string) error {
	if os.Getenv("DBUS_SESSION_BUS_ADDRESS") == "" {
		return errors.New("no session bus")
	}
	conn, err := dbus.SessionBusPrivateNoAutoStartup(dbus.WithContext(ctx))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := errors.Join(conn.Auth(nil), conn.Hello()); err != nil {
		return err
	}
	return conn.Object("org.kde.klipper", "/klipper").CallWithContext(ctx, "org.kde.klipper.klipper.setClipboardContents", dbus.FlagNoAutoStart, text).Err
}
