package loopback

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
)

// mine looks the other end's socket up in the kernel's table, which has the
// user of each.
func mine(here, there netip.AddrPort) (bool, error) {
	path := "/proc/net/tcp"
	if !here.Addr().Is4() {
		path = "/proc/net/tcp6"
	}
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	uid, found, err := owner(f, there, here)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	return found && uid == os.Getuid(), nil
}

// owner is the user of the socket from local to remote. A program that closed
// its end owns it no longer: it is not found.
func owner(table io.Reader, local, remote netip.AddrPort) (uid int, found bool, err error) {
	want, to := entry(local), entry(remote)
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		// "0: 0100007F:A1B2 0100007F:1F90 01 … uid …"
		fields := bytes.Fields(lines.Bytes())
		const uidField, established, lingering = 7, "01", "08" // the kernel's numbers of states
		if len(fields) <= uidField || string(fields[1]) != want || string(fields[2]) != to {
			continue
		}
		if state := string(fields[3]); state != established && state != lingering {
			continue
		}
		uid, err := strconv.Atoi(string(fields[uidField]))
		return uid, err == nil, err
	}
	return 0, false, lines.Err()
}

// entry writes an address as the table does: 32-bit words in the order of this
// machine's bytes.
func entry(a netip.AddrPort) string {
	text := ""
	for word := range slices.Chunk(a.Addr().AsSlice(), 4) {
		text += fmt.Sprintf("%08X", binary.NativeEndian.Uint32(word))
	}
	return text + fmt.Sprintf(":%04X", a.Port())
}
