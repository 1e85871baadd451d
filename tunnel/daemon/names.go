package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"

	"stile/platform/dirs"
	"stile/tunnel/core"
	"stile/tunnel/policy"
)

// maxNames bounds the file of proxy addresses: four of each family for a name,
// out of a range of two million.
const (
	maxNames     = 500_000
	maxNamesFile = 256 << 20
)

// names is the file of proxy addresses. An application may keep an address for
// as long as it likes, so it must mean the same name after a restart.
type names struct {
	Version int    `json:"version"`
	Names   []name `json:"names"`
}

type name struct {
	Name  string       `json:"name"`
	Addrs []netip.Addr `json:"addrs"`
}

// loadNames reads the proxy addresses of earlier runs. A file that cannot be
// used is kept aside, and the run starts without: worse than stale addresses
// would be no tunnel at all.
func loadNames(path string, log *slog.Logger) []core.ProxyName {
	text, err := readBounded(path, maxNamesFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var list []core.ProxyName
	if err == nil {
		list, err = parseNames(text)
	}
	if err == nil {
		return list
	}
	log.Warn("the stored proxy addresses are unreadable; applications may have to look names up again", "file", path, "error", err)
	putAside(path, log)
	return nil
}

// putAside keeps what was found. A file that cannot be moved is no reason not
// to run: it is replaced, or stays, as the folder permits.
func putAside(path string, log *slog.Logger) {
	if err := os.Rename(path, path+".bad"); err != nil {
		log.Warn("the unreadable file could not be put aside", "error", err)
		return
	}
	log.Warn("the unreadable file was put aside", "aside", path+".bad")
}

// parseNames refuses what a run of ours cannot have written: an address
// outside the proxy ranges, or one that stands for two names.
func parseNames(text []byte) ([]core.ProxyName, error) {
	var file names
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	if file.Version != 1 {
		return nil, fmt.Errorf("version %d is not known", file.Version)
	}
	if len(file.Names) > maxNames {
		return nil, fmt.Errorf("%d names are too many", len(file.Names))
	}
	owner := map[netip.Addr]string{}
	list := make([]core.ProxyName, 0, len(file.Names))
	for _, n := range file.Names {
		if n.Name == "" || len(n.Name) > 253 || len(n.Addrs) > 8 {
			return nil, fmt.Errorf("a name of %d bytes with %d addresses", len(n.Name), len(n.Addrs))
		}
		for _, a := range n.Addrs {
			if !policy.IsProxy(a) || policy.IsSentinel(a) {
				return nil, fmt.Errorf("%v is no proxy address", a)
			}
			if other, taken := owner[a]; taken {
				return nil, fmt.Errorf("%v stands for %q and %q", a, other, n.Name)
			}
			owner[a] = n.Name
		}
		list = append(list, core.ProxyName{Name: n.Name, Addrs: n.Addrs})
	}
	return list, nil
}

// saveNames replaces the file.
func saveNames(path string, list []core.ProxyName) error {
	file := names{Version: 1, Names: make([]name, 0, len(list))}
	for _, n := range list {
		file.Names = append(file.Names, name{n.Name, n.Addrs})
	}
	text, err := json.Marshal(file)
	if err != nil {
		return err
	}
	return dirs.WriteSecret(path, append(text, '\n'))
}

func readBounded(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > most {
		return nil, fmt.Errorf("%s is not a file of ours (%v, %d bytes)", path, info.Mode(), info.Size())
	}
	return os.ReadFile(path)
}
