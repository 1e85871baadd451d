//go:build !linux

package machine

func vitals() []byte { return nil }
