//go:build linux

package main

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

// tunnelMTU is that of Stile's tunnels, which the protocol fixes; wireguard-go
// gets the same, so that both make as many packets of as many bytes.
const tunnelMTU = 1280

// wireguardCmd is "lab wireguard": one end of a wireguard-go tunnel, the
// baseline of the throughput benchmark, to be run inside a host. It reads its
// configuration (keys and peers as in WireGuard's cross-platform interface)
// from standard input and says "up".
type wireguardCmd struct {
	Name string `arg:"" help:"Of the network device."`
}

func (w *wireguardCmd) Run() error {
	config, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	t, err := tun.CreateTUN(w.Name, tunnelMTU)
	if err != nil {
		return fmt.Errorf("make a TUN device: %w", err)
	}
	d := device.NewDevice(t, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, ""))
	defer d.Close()
	if err := d.IpcSet(string(config)); err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	if err := d.Up(); err != nil {
		return fmt.Errorf("bring up: %w", err)
	}
	fmt.Println("up")
	end := make(chan os.Signal, 1)
	signal.Notify(end, unix.SIGTERM)
	select {
	case <-end:
	case <-d.Wait():
	}
	return nil
}

// wireguardPort is where both ends listen.
const wireguardPort = 51820

// wireguardConfigs returns what each of two ends reads, given the address it
// is reached at and the network behind it.
func wireguardConfigs(addrs [2]netip.Addr, behind [2]netip.Prefix) (configs [2]string, err error) {
	var keys [2]*ecdh.PrivateKey
	for i := range keys {
		if keys[i], err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
			return configs, err
		}
	}
	for i := range configs {
		configs[i] = fmt.Sprintf("private_key=%s\nlisten_port=%d\npublic_key=%s\nendpoint=%v\nallowed_ip=%v\n",
			hex.EncodeToString(keys[i].Bytes()), wireguardPort,
			hex.EncodeToString(keys[1-i].PublicKey().Bytes()), netip.AddrPortFrom(addrs[1-i], wireguardPort), behind[1-i])
	}
	return configs, nil
}
