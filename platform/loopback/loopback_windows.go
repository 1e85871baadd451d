package loopback

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/windows"
)

var getExtendedTCPTable = windows.NewLazySystemDLL("iphlpapi.dll").NewProc("GetExtendedTcpTable")

// mine looks the other end's process up in the system's table of connections,
// and compares its user with ours. A process that we may not look at is not
// ours.
func mine(here, there netip.AddrPort) (bool, error) {
	if !here.Addr().Is4() {
		return false, errors.ErrUnsupported
	}
	table, err := connections()
	if err != nil {
		return false, err
	}
	pid, found := owner(table, there, here)
	if !found {
		return false, nil
	}
	p, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, pid)
	if err != nil {
		return false, nil
	}
	defer windows.CloseHandle(p)
	var token windows.Token
	if err := windows.OpenProcessToken(p, windows.TOKEN_QUERY, &token); err != nil {
		return false, nil
	}
	defer token.Close()
	their, err := token.GetTokenUser()
	if err != nil {
		return false, nil
	}
	our, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return false, fmt.Errorf("find out who we are: %w", err)
	}
	return windows.EqualSid(their.User.Sid, our.User.Sid), nil
}

// connections is a MIB_TCPTABLE_OWNER_PID. It may grow between two calls.
func connections() ([]byte, error) {
	const ownerPIDConnections = 4 // TCP_TABLE_OWNER_PID_CONNECTIONS
	size := uint32(16 << 10)
	for range 10 {
		table := make([]byte, size)
		r, _, _ := getExtendedTCPTable.Call(uintptr(unsafe.Pointer(&table[0])), uintptr(unsafe.Pointer(&size)), 0, windows.AF_INET, ownerPIDConnections, 0)
		switch code := windows.Errno(r); code {
		case 0:
			return table, nil
		case windows.ERROR_INSUFFICIENT_BUFFER:
			size += 4 << 10
		default:
			return nil, fmt.Errorf("list connections: %w", code)
		}
	}
	return nil, errors.New("list connections: there are more each time")
}

// owner is the process of the socket from local to remote. The table is a
// 32-bit count, then rows of six 32-bit words: state, addresses and ports of
// both ends (in the order of the network), process.
func owner(table []byte, local, remote netip.AddrPort) (pid uint32, found bool) {
	const row = 24
	if len(table) < 4 {
		return 0, false
	}
	n := binary.NativeEndian.Uint32(table)
	for table = table[4:]; n > 0 && len(table) >= row; n, table = n-1, table[row:] {
		if end(table[4:]) == local && end(table[12:]) == remote {
			return binary.NativeEndian.Uint32(table[20:]), true
		}
	}
	return 0, false
}

func end(b []byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b)), binary.BigEndian.Uint16(b[4:]))
}
