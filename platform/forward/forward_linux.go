package forward

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Forwarding keeps the host forwarding. Its methods may be called from several
// goroutines.
type Forwarding struct {
	cfg Config

	mu        sync.Mutex // guards what follows
	firewall  *firewall  // nil before Enable and after Close
	owned     bool       // the kernel lets nobody else change our table
	installed string     // our table's fingerprint
	held      bool       // Close leaves the hold
	told      map[string]bool
	lost      [2]uint64 // packets that the last Check had missed, in and out
}

// Enable makes the host forward for the tunnel. Calling it again puts back
// what another program has changed, and costs a look otherwise. The error says
// which feature the kernel lacks and what to do; what only degrades service is
// logged.
func (f *Forwarding) Enable() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.enableLocked()
}

func (f *Forwarding) enableLocked() error {
	if f.firewall == nil {
		w, err := dial()
		if err != nil {
			return err
		}
		f.firewall, f.told = w, map[string]bool{}
	}
	// The firewall comes first: it loads connection tracking, whose settings
	// do not exist before, and nothing is forwarded that it would not let by.
	is, err := f.firewall.fingerprint()
	if err != nil {
		return fmt.Errorf("look at the firewall table \"inet %s\": %w", TableName, err)
	}
	if is == "" || is != f.installed {
		if f.owned, err = f.firewall.install(f.cfg.Interface); err != nil {
			return err
		}
		f.held = false
		again := f.installed != ""
		if f.installed, err = f.firewall.fingerprint(); err != nil {
			return err
		}
		f.lost = [2]uint64{}
		if again {
			f.forgetStrays()
		}
	}
	if err := setKernel(f.cfg.Log, f.told); err != nil {
		return err
	}
	if f.cfg.Integrate {
		f.integrateLocked()
	}
	return nil
}

// forgetStrays ends the kernel's memory of flows that left the tunnel while
// nothing masqueraded them: it would send them on with an address to which
// nobody answers for as long as the client tries.
func (f *Forwarding) forgetStrays() {
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, stray{}); err != nil {
			f.cfg.Log.Debug("flows that were not masqueraded may hang", "error", err)
		}
	}
}

type stray struct{}

// MatchConntrackFlow reports whether the flow came from a client and is
// answered to the client's own address.
func (stray) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	from, _ := netip.AddrFromSlice(flow.Forward.SrcIP)
	from = from.Unmap()
	return (peers4.Contains(from) || peers6.Contains(from)) && flow.Forward.SrcIP.Equal(flow.Reverse.DstIP)
}

// Close undoes all that this and earlier runs have done, but for a hold of ours.
func (f *Forwarding) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var err error
	if f.firewall != nil {
		// Without forwarding first, nothing passes while our rules go.
		err = errors.Join(restoreKernel(f.cfg.Log), f.firewall.retract(), f.firewall.remove(TableName), f.firewall.close())
		f.firewall, f.installed = nil, ""
	}
	if f.held {
		return errors.Join(err, Recover(f.cfg.Log))
	}
	return errors.Join(err, Restore(f.cfg.Log))
}

// Restore removes our tables, our rules in other programs' tables and puts
// kernel settings back that we changed, in whichever run. It is harmless when
// there is nothing to undo, and refuses while another process forwards.
func Restore(log *slog.Logger) error { return undo(log, TableName, holdName) }

func undo(log *slog.Logger, tables ...string) error {
	w, err := dial()
	if err != nil {
		return errors.Join(err, restoreKernel(log))
	}
	defer w.close()
	if err := w.remove(tables...); err != nil {
		return err
	}
	return errors.Join(restoreKernel(log), w.retract())
}
