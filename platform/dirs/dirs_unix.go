//go:build !windows

package dirs

// Config holds what an administrator writes, State what must survive a
// reboot, Run what must not. Hosts is the system's hosts file.
const (
	Config = "/etc/stile"
	State  = "/var/lib/stile"
	Run    = "/run/stile"
	Hosts  = "/etc/hosts"
)
