//go:build !linux

package desktop

// Installers make entries.
func list(string, string) error { return nil }
func unlist() error             { return nil }
