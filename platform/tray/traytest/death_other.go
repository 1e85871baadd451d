//go:build !linux

package traytest

import "syscall"

func mortal() *syscall.SysProcAttr { return nil }
