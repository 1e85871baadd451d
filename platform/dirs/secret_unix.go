//go:build !windows

package dirs

func writeSecret(path string, data []byte) error { return WriteFile(path, data, 0o600) }

func protect(string) error { return nil }
