package dnsctl

import (
	"fmt"
	"net/netip"
)

// asked reads the file that the C library and its like go by, whoever wrote it.
func asked() ([]netip.Addr, error) {
	text, err := File{Path: path}.read(path)
	if err != nil {
		return nil, fmt.Errorf("read whom programs ask for names: %w", err)
	}
	return nameservers(text), nil
}
