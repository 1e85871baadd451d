// Package forward makes a gateway's host pass packets between the tunnel and
// the networks around it: kernel forwarding, masquerading, and a firewall that
// lets only answers into the tunnel. Spec gateway-nat.md 1.3, L1 to L6.
//
// Everything lives in one nftables table of ours, "inet stile"; kernel
// settings are written down before they are changed and put back by Restore.
package forward

import "log/slog"

// TableName is the name of our nftables table, of family inet.
const TableName = "stile"

// Enable makes the host forward for the tunnel interface iface. Calling it
// again puts back what another program has flushed. The error says which
// feature the kernel lacks; what only degrades service is logged.
func Enable(iface string, log *slog.Logger) error { return enable(iface, log) }

// Restore removes our table and puts kernel settings back that we changed, in
// whichever run. It is harmless when there is nothing to undo.
func Restore(log *slog.Logger) error { return restore(log) }
