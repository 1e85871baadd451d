package forward

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

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

// settings returns what a gateway's host needs. Kernel connection tracking
// must not forget a masqueraded flow before the gateway's own session ends.
func settings() []setting {
	list := []setting{
		{"ipv4/ip_forward", 1, true, true},
		{"ipv4/conf/all/src_valid_mark", 1, true, false},
		{"netfilter/nf_conntrack_udp_timeout_stream", 300, false, false},
		{"netfilter/nf_conntrack_udp_timeout", 60, false, false},
		{"netfilter/nf_conntrack_icmp_timeout", 120, false, false},
		{"netfilter/nf_conntrack_icmpv6_timeout", 120, false, false},
	}
	// With forwarding on, an interface that learns its default route from
	// router advertisements forgets it unless accept_ra is 2.
	paths, _ := filepath.Glob(proc + "ipv6/conf/*/accept_ra")
	for _, p := range paths {
		if value, err := read(p); err == nil && value == 1 {
			list = append(list, setting{strings.TrimPrefix(p, proc), 2, false, false})
		}
	}
	if _, err := os.Stat(proc + "ipv6"); err == nil { // IPv6 may be off altogether
		list = append(list, setting{"ipv6/conf/all/forwarding", 1, true, false}, setting{"ipv6/conf/default/forwarding", 1, true, false})
	}
	return list
}

func setKernel(log *slog.Logger) error {
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
			log.Warn("a kernel setting is missing", "setting", s.name, "error", err)
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
			log.Warn("a kernel setting could not be changed", "setting", s.name, "wanted", s.want, "error", err)
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
	for _, s := range settings() {
		// A value that is not ours any more was changed by somebody else since.
		if value, err := read(proc + s.name); err != nil || value != s.want {
			delete(before, s.name)
		}
	}
	for name, value := range before {
		if err := os.WriteFile(proc+name, []byte(strconv.Itoa(value)), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("put %s back: %w", name, err))
		}
	}
	if err := os.Remove(journal); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
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
