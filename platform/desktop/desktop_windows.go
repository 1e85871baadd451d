package desktop

import "os/exec"

// opener needs no shell, which would read an "&" of the address.
func opener(address string) (*exec.Cmd, error) {
	return firstOf(address, []string{"rundll32.exe", "url.dll,FileProtocolHandler"})
}
