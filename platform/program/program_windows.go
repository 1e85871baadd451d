package program

import "os/exec"

func restart(path string, args []string) error { return exec.Command(path, args...).Start() }
