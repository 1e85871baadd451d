//go:build !windows

package dirs

// Config holds what an administrator writes, State what must survive a
// reboot, Run what must not, Logs what the services log. Hosts is the system's hosts file.
const (
	Config = "/etc/stile"
	State  = "/var/lib/stile"
	Logs   = "/var/log/stile"
	Run    = "/run/stile"
	Hosts  = "/etc/hosts"
)
