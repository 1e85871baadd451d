package dirs

import (
	"os"
	"path/filepath"
)

// Config holds what an administrator writes, State what must survive a
// reboot, Run what need not, Logs what the services log.
// Memory is a folder that is never written to a disk, "" where there is none. Hosts is the system's hosts file.
var (
	Config = filepath.Join(os.Getenv("ProgramData"), "stile")
	State  = filepath.Join(os.Getenv("ProgramData"), "stile", "config")
	Logs   = filepath.Join(os.Getenv("ProgramData"), "stile", "data", "logs")
	Memory = ""
	Run    = filepath.Join(os.Getenv("ProgramData"), "stile", "run")
	Hosts  = filepath.Join(os.Getenv("SystemRoot"), "System32", "drivers", "etc", "hosts")
)
