//go:build !linux && !windows

package tun

import "errors"

// Device is a TUN device, which this system does not have yet.
type Device struct{}

// Open returns errors.ErrUnsupported.
func Open(string, int) (*Device, error) { return nil, errors.ErrUnsupported }

func (*Device) Name() string                           { return "" }
func (*Device) Offloads() Offloads                     { return Offloads{} }
func (*Device) BatchSize() int                         { return 1 }
func (*Device) Read([][]byte, []int, int) (int, error) { return 0, errors.ErrUnsupported }
func (*Device) Write([][]byte) (int, error)            { return 0, errors.ErrUnsupported }
func (*Device) Close() error                           { return nil }
