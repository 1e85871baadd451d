//go:build !linux && !windows

package desktop

import "os/exec"

func opener(address string) (*exec.Cmd, error) { return firstOf(address, []string{"open"}) }
