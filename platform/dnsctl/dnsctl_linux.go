package dnsctl

import (
	"log/slog"

	"golang.org/x/sys/unix"
)

const (
	path   = "/etc/resolv.conf"
	backup = "/etc/resolv.conf.before-stile"
)

var files = []string{path, backup, "/etc/nsswitch.conf", "/etc/hosts", "/run/systemd/resolve/resolv.conf"}

var errReadOnly error = unix.EROFS

func newControl(mode Mode, log *slog.Logger) (Control, error) {
	file := File{path, backup, log}
	if mode == Disabled {
		return off{file}, nil
	}
	return file, file.Check()
}

// Restore undoes what any earlier run has left behind, whatever its mode was.
func Restore(log *slog.Logger) error { return File{path, backup, log}.Restore() }
