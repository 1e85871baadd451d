package service

import (
	"os"
	"os/signal"
	"syscall"
)

// Reloads tells when an administrator asks for the configuration to be read
// again, as `systemctl reload` does with SIGHUP. stop ends it.
func Reloads() (asked <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}
