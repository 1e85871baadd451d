package forward

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"stile/platform/dirs"
)

// journal holds the kernel settings as they were before we changed them. It
// lies where a reboot, which resets the settings, removes it too.
var journal = filepath.Join(dirs.Run, "forward.json")

const proc = "/proc/sys/net/"

// A setting is a kernel parameter below /proc/sys/net that should be at least
// (or, if exact, equal to) want.
type setting struct {
	name            string
	want            int
	exact, required bool
}

// settings returns what a gateway's host needs, in the order in which it is
// set. Kernel connection tracking must not forget a masqueraded flow before
// the gateway's own session ends, and must not judge segments: those that it
// finds out of the window pass without translation, a client's with its tunnel
// address, a server's to this host, which resets the connection.
func settings() []setting {
	list := []setting{
		{"ipv4/conf/all/src_valid_mark", 1, true, false},
		{"netfilter/nf_conntrack_udp_timeout_stream", 300, false, false},
		{"netfilter/nf_conntrack_udp_timeout", 60, false, false},
		{"netfilter/nf_conntrack_icmp_timeout", 120, false, false},
		{"netfilter/nf_conntrack_icmpv6_timeout", 120, false, false},
		{"netfilter/nf_conntrack_tcp_be_liberal", 1, false, false},
	}
	const resets = "netfilter/nf_conntrack_tcp_ignore_invalid_rst"
	if _, err := os.Stat(proc + resets); err == nil { // Linux 5.14
		list = append(list, setting{resets, 1, false, false})
	}
	// What other namespaces share is theirs to read only.
	if room := roomToTrack(); room > 0 && unix.Access(proc+"netfilter/nf_conntrack_max", unix.W_OK) == nil {
		list = append(list, setting{"netfilter/nf_conntrack_max", room, false, false})
	}
	// With forwarding on, an interface that learns its default route from
	// router advertisements forgets it unless accept_ra is 2. On others 2
	// would let any neighbour become this host's router.
	for _, name := range advertised() {
		list = append(list, setting{"ipv6/conf/" + name + "/accept_ra", 2, false, false})
	}
	list = append(list, setting{"ipv4/ip_forward", 1, true, true})
	if _, err := os.Stat(proc + "ipv6"); err == nil { // IPv6 may be off altogether
		list = append(list, setting{"ipv6/conf/all/forwarding", 1, true, false}, setting{"ipv6/conf/default/forwarding", 1, true, false})
	}
	return list
}

// advertised returns the interfaces for which the kernel itself heeds router
// advertisements and has learned a default route from one.
func advertised() []string {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{Protocol: unix.RTPROT_RA}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return nil
	}
	var names []string
	for _, r := range routes {
		if r.Dst != nil {
			if ones, _ := r.Dst.Mask.Size(); ones > 0 {
				continue
			}
		}
		l, err := netlink.LinkByIndex(r.LinkIndex)
		if err != nil || slices.Contains(names, l.Attrs().Name) || strings.ContainsAny(l.Attrs().Name, "/") {
			continue
		}
		// 0: another program, such as NetworkManager, does it.
		if v, err := read(proc + "ipv6/conf/" + l.Attrs().Name + "/accept_ra"); err == nil && v > 0 {
			names = append(names, l.Attrs().Name)
		}
	}
	return names
}

// roomToTrack is for how many connections the kernel should have room: 262,144
// as by default with 4 GiB of memory and more, or as many as fill an eighth of
// a smaller memory, at 320 bytes each.
func roomToTrack() int {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return int(min(262144, uint64(info.Totalram)*uint64(info.Unit)/8/320))
}

// Conntrack tells how full connection tracking is.
func Conntrack() (Tracked, error) {
	count, err := read(proc + "netfilter/nf_conntrack_count")
	if errors.Is(err, fs.ErrNotExist) {
		return Tracked{}, nil
	}
	if err != nil {
		return Tracked{}, err
	}
	most, err := read(proc + "netfilter/nf_conntrack_max")
	return Tracked{count, most}, err
}

// setKernel makes the settings so. It may be called again and again: what it
// cannot change it says once, that is, if told is nil or lacks the name.
func setKernel(log *slog.Logger, told map[string]bool) error {
	once := func(s setting, text string, err error) {
		if !told[s.name] {
			log.Warn(text, "setting", s.name, "wanted", s.want, "error", err)
		}
		if told != nil {
			told[s.name] = true
		}
	}
	before, err := readJournal()
	if err != nil {
		log.Warn("the record of kernel settings is unreadable and starts anew", "file", journal, "error", err)
		before = map[string]int{}
	}
	var change []setting
	for _, s := range settings() {
		value, err := read(proc + s.name)
		switch {
		case err != nil && s.required:
			return fmt.Errorf("read %s: %w", s.name, err)
		case err != nil:
			once(s, "a kernel setting is missing", err)
		case value == s.want || !s.exact && value > s.want:
		default:
			if _, known := before[s.name]; !known {
				before[s.name] = value
			}
			change = append(change, s)
		}
	}
	if len(change) == 0 {
		return nil
	}
	if err := writeJournal(before); err != nil { // first the record, then the change
		return err
	}
	for _, s := range change {
		if err := os.WriteFile(proc+s.name, []byte(strconv.Itoa(s.want)), 0); err != nil {
			if s.required {
				return fmt.Errorf("set %s to %d (a gateway must forward; root or CAP_NET_ADMIN is needed, and in a container a writable /proc/sys/net): %w", s.name, s.want, err)
			}
			once(s, "a kernel setting could not be changed", err)
		}
	}
	return nil
}

func restoreKernel(log *slog.Logger) error {
	before, err := readJournal()
	if err != nil {
		log.Warn("the record of kernel settings is unreadable; they stay as they are", "file", journal, "error", err)
		return nil
	}
	var errs []error
	for _, name := range restoreOrder(before) {
		// A value that is not ours any more was changed by somebody else since.
		if value, err := read(proc + name); err != nil || value != wanted(name) {
			continue
		}
		if err := os.WriteFile(proc+name, []byte(strconv.Itoa(before[name])), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("put %s back: %w", name, err))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...) // with the record, for the next try
	}
	if err := os.Remove(journal); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// restoreOrder puts forwarding first and what depends on it, such as
// accept_ra, after it.
func restoreOrder(before map[string]int) []string {
	return slices.SortedFunc(maps.Keys(before), func(a, b string) int {
		rank := func(name string) int {
			if strings.HasSuffix(name, "forward") || strings.HasSuffix(name, "forwarding") {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
}

// wanted is the value that we set the setting to.
func wanted(name string) int {
	if strings.HasPrefix(name, "ipv6/conf/") && strings.HasSuffix(name, "/accept_ra") {
		return 2 // the interface may have lost its route since
	}
	if name == "netfilter/nf_conntrack_max" {
		return roomToTrack()
	}
	for _, s := range settings() {
		if s.name == name {
			return s.want
		}
	}
	return -1
}

func readJournal() (map[string]int, error) {
	text, err := os.ReadFile(journal)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]int{}, nil
	}
	if err != nil {
		return nil, err
	}
	return parseJournal(text)
}

// parseJournal refuses names that lead elsewhere: root will write to them.
func parseJournal(text []byte) (map[string]int, error) {
	before := map[string]int{}
	if err := json.Unmarshal(text, &before); err != nil {
		return nil, err
	}
	if before == nil {
		return nil, errors.New("holds nothing")
	}
	for name := range before {
		if !filepath.IsLocal(name) || strings.ContainsRune(name, 0) {
			return nil, fmt.Errorf("%q is no kernel setting", name)
		}
	}
	return before, nil
}

func writeJournal(before map[string]int) error {
	text, err := json.Marshal(before)
	if err != nil {
		return err
	}
	return dirs.WriteFile(journal, text, 0o600)
}

func read(path string) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}
