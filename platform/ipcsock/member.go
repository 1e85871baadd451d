package ipcsock

import (
	"net"
	"os/user"
	"slices"
	"strconv"
)

// GroupID returns the number of the named group, 0 if there is none.
func GroupID(group string) int {
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0
	}
	gid, err := strconv.ParseUint(g.Gid, 10, 31)
	if err != nil { // Windows has no numbers
		return 0
	}
	return int(gid)
}

// Member reports whether p, at the other end of conn, belongs to the named
// group: as the process itself says, or as the system's files say of its user.
// The second counts too, so that somebody who was added to a group need not log
// out and in again. Doubt, such as a group that does not exist, is a no.
func Member(conn net.Conn, p Peer, group string) bool {
	g, err := user.LookupGroup(group)
	if err != nil {
		return false
	}
	gid, err := strconv.ParseUint(g.Gid, 10, 32)
	if err != nil {
		return false
	}
	if p.GID == uint32(gid) {
		return true
	}
	if unix, is := conn.(*net.UnixConn); is {
		if list, err := groups(unix); err == nil && slices.Contains(list, uint32(gid)) {
			return true
		}
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(p.UID), 10))
	if err != nil {
		return false
	}
	list, err := u.GroupIds()
	return err == nil && slices.Contains(list, g.Gid)
}
