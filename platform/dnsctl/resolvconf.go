package dnsctl

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"stile/platform/dirs"
)

const (
	// magic is the first line of a file we have taken over.
	magic = "# BEGIN Stile DNS configuration"
	// maxFile bounds what we read; the C library reads far less.
	maxFile = 64 << 10
	// maxServers is how many resolvers the C library asks.
	maxServers = 3
)

// A File is a resolv.conf that we take over in place: containers bind-mount
// it, so it must keep its inode (spec client-dns.md 20.2).
type File struct {
	Path, Backup string
	Log          *slog.Logger
}

// Check says whether the file can be taken over.
func (f File) Check() error {
	info, err := os.Lstat(f.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s does not exist: create it with a line \"nameserver ADDRESS\", or use --dns-control disabled", f.Path)
	case err != nil:
		return err
	case info.Mode()&fs.ModeSymlink != 0:
		target, _ := os.Readlink(f.Path)
		who := "another program"
		if strings.Contains(target, "systemd/resolve") {
			who = "systemd-resolved"
		}
		return fmt.Errorf("%s is a link to %s: %s manages DNS here, which Stile cannot control yet; replace the link by a regular file, or use --dns-control disabled", f.Path, target, who)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file; replace it by one with a line \"nameserver ADDRESS\", or use --dns-control disabled", f.Path)
	}
	return nil
}

// Set implements Control. The backup is on disk before the file changes.
func (f File) Set(servers []netip.Addr, search string) error {
	if len(servers) == 0 {
		f.Log.Warn("no resolvers to set, DNS stays as it is", "file", f.Path)
		return nil
	}
	if strings.ContainsFunc(search, func(r rune) bool { return r <= ' ' || r == ';' || r == '#' }) {
		return fmt.Errorf("%q is no search domain", search) // it would become other settings
	}
	if err := f.Check(); err != nil {
		return err
	}
	live, err := f.read(f.Path)
	if err != nil {
		return err
	}
	original := live
	if ours(live) {
		original, err = f.read(f.Backup)
		if errors.Is(err, fs.ErrNotExist) {
			f.Log.Warn("the backup is gone; what was there before cannot come back", "backup", f.Backup)
			original, err = foreign(live), nil
		}
		if err != nil {
			return err
		}
	}
	if backup, err := f.read(f.Backup); err != nil || !bytes.Equal(backup, original) {
		if err := dirs.WriteFile(f.Backup, original, 0o644); err != nil {
			return fmt.Errorf("back up %s: %w", f.Path, err)
		}
	}
	content := f.compose(original, servers, search)
	if bytes.Equal(content, live) {
		return nil
	}
	return f.overwrite(content)
}

// Restore implements Control. A file that no longer carries our first line
// belongs to whoever wrote it. The backup stays: a power cut may roll the copy
// back.
func (f File) Restore() error {
	first, err := f.beginning(f.Path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !ours(first) {
		return nil
	}
	if err != nil {
		return err
	}
	original, err := f.read(f.Backup)
	if errors.Is(err, fs.ErrNotExist) {
		f.Log.Warn("DNS was taken over but the backup is gone; nothing to restore", "file", f.Path, "backup", f.Backup)
		return nil
	}
	if err != nil {
		return fmt.Errorf("put DNS back: %w; write the resolvers into %s by hand", err, f.Path)
	}
	return f.overwrite(original)
}

// Servers implements Control: the backup counts only while the file is ours.
func (f File) Servers() ([]netip.AddrPort, error) {
	text, err := f.read(f.Path)
	if err == nil && ours(text) {
		text, err = f.read(f.Backup)
	}
	if err != nil {
		return nil, fmt.Errorf("read the system's resolvers: %w", err)
	}
	var servers []netip.AddrPort
	for _, a := range nameservers(text) {
		servers = append(servers, netip.AddrPortFrom(a, 53))
	}
	return servers, nil
}

// nameservers lists the resolvers that a file names.
func nameservers(text []byte) (addrs []netip.Addr) {
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == "nameserver" {
			if a, err := netip.ParseAddr(fields[1]); err == nil {
				addrs = append(addrs, a)
			}
		}
	}
	return addrs
}

// Flush implements Control: the file has no cache.
func (f File) Flush() error { return nil }

// compose returns the file that points at servers and keeps everything else
// of original. Local search domains stay, behind search.
func (f File) compose(original []byte, servers []netip.Addr, search string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n# Stile answers DNS while it runs and puts the former file back when it stops.\n", magic)
	fmt.Fprintf(&b, "# To keep your own edits, delete the first line. The former file is %s.\n", f.Backup)
	for _, s := range pick(servers) {
		fmt.Fprintf(&b, "nameserver %v\n", s)
	}
	domains, options := []string{}, []string{}
	if search != "" {
		domains = append(domains, search)
	}
	var rest strings.Builder
	for line := range strings.Lines(string(original)) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0 || fields[0] == "nameserver":
		case fields[0] == "search" || fields[0] == "domain":
			for _, d := range fields[1:] {
				if !slices.Contains(domains, d) {
					domains = append(domains, d)
				}
			}
		case fields[0] == "options":
			for _, o := range fields[1:] {
				if !strings.HasPrefix(o, "ndots:") && !slices.Contains(options, o) {
					options = append(options, o)
				}
			}
		default:
			rest.WriteString(strings.TrimRight(line, "\r\n") + "\n")
		}
	}
	if len(domains) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(domains, " "))
	}
	fmt.Fprintf(&b, "options %s\n", strings.Join(append([]string{"ndots:1"}, options...), " "))
	b.WriteString(rest.String())
	return []byte(b.String())
}

// pick chooses at most three servers, one of each family first.
func pick(servers []netip.Addr) []netip.Addr {
	if len(servers) <= maxServers {
		return servers
	}
	chosen := []netip.Addr{servers[0]}
	for _, s := range servers {
		if s.Is4() != servers[0].Is4() {
			chosen = append(chosen, s)
			break
		}
	}
	for _, s := range servers[1:] {
		if len(chosen) < maxServers && !slices.Contains(chosen, s) {
			chosen = append(chosen, s)
		}
	}
	return chosen
}

func (f File) read(path string) ([]byte, error) {
	text, err := f.beginning(path)
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile || !utf8.Valid(text) {
		return nil, fmt.Errorf("%s is not a resolver configuration (more than %d bytes, or not text)", path, maxFile)
	}
	return text, nil
}

// beginning returns one byte more than a usable file has, if there are so
// many. What is no file, such as a folder or a pipe, is empty.
func (f File) beginning(path string) ([]byte, error) {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxFile+1))
}

// overwrite writes in place, first the content, then the length: whatever
// happens in between, the file starts with the new content.
func (f File) overwrite(content []byte) error {
	file, err := os.OpenFile(f.Path, os.O_WRONLY, 0)
	switch {
	case errors.Is(err, errReadOnly):
		return fmt.Errorf("%w (a systemd unit needs ReadWritePaths=/etc)", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; run as root", err)
	case err != nil:
		return err
	}
	_, err = file.WriteAt(content, 0)
	if err == nil {
		err = file.Truncate(int64(len(content)))
	}
	if err == nil {
		err = file.Sync()
	}
	if e := file.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", f.Path, err)
	}
	return nil
}

func ours(text []byte) bool { return bytes.HasPrefix(text, []byte(magic)) }

// foreign removes our comment and resolvers from a file of ours.
func foreign(text []byte) []byte {
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "nameserver") && !strings.HasPrefix(line, "#") {
			b.WriteString(line)
		}
	}
	return []byte(b.String())
}
