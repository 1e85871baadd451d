//go:build !windows

package ipcsock

import (
	"os"
	"path/filepath"
	"strconv"
)

// Beside returns where a program listens that keeps its files in dir.
func Beside(dir, name string) string { return filepath.Join(dir, name+".sock") }

// Self returns what names our user on this machine, as Peer.User does.
func Self() (string, error) { return strconv.Itoa(os.Geteuid()), nil }
