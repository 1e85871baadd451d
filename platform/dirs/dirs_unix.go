//go:build !windows

package dirs

// Config holds what an administrator writes, State what must survive a
// reboot, Run what must not, Logs what the services log.
// Memory is a folder that is never written to a disk, "" where there is none. Hosts is the system's hosts file.
const (
	Config = "/etc/stile"
	State  = "/var/lib/stile"
	Logs   = "/var/log/stile"
	Run    = "/run/stile"
	Memory = Run
	Hosts  = "/etc/hosts"
)
