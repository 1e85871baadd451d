//go:build !windows

package keystore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestEnvironmentIsEmptiedAtOnce(t *testing.T) {
	t.Setenv("STILE_TEST_A", " abc.\n def ")
	t.Setenv("STILE_TEST_B", "other")
	got, err := FromEnvironment("STILE_TEST_NONE", "STILE_TEST_A", "STILE_TEST_B")
	if err != nil || got != "abc.def" {
		t.Errorf("%q, %v", got, err)
	}
	for _, name := range []string{"STILE_TEST_A", "STILE_TEST_B"} {
		if v, set := os.LookupEnv(name); set {
			t.Errorf("%s is still %q", name, v)
		}
	}
	if _, err := FromEnvironment("STILE_TEST_A"); !errors.Is(err, ErrNoToken) {
		t.Error(err)
	}
}

func TestFileMustBePrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	if err := Store(path, "abc"); err != nil {
		t.Fatal(err)
	}
	if got, err := FromFile(path); err != nil || got != "abc" {
		t.Errorf("%q, %v", got, err)
	}
	t.Setenv("STILE_TEST_A", path)
	if got, err := FromEnvironment("STILE_TEST_A"); err != nil || got != "abc" {
		t.Errorf("by path: %q, %v", got, err)
	}
	for _, mode := range []os.FileMode{0o644, 0o640, 0o604, 0o660} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if got, err := FromFile(path); err == nil || got != "" || !strings.Contains(err.Error(), "chmod 0600") {
			t.Errorf("mode %o: %q, %v", mode, got, err)
		}
	}
	if os.Getuid() == 0 {
		os.Chmod(path, 0o600)
		os.Chown(path, 4711, 0)
		if got, err := FromFile(path); err == nil || got != "" {
			t.Errorf("foreign owner: %q, %v", got, err)
		}
	}
}

func TestMissingEmptyAndOddFiles(t *testing.T) {
	dir := t.TempDir()
	if _, err := FromFile(filepath.Join(dir, "none")); !errors.Is(err, ErrNoToken) {
		t.Error(err)
	}
	empty := filepath.Join(dir, "empty")
	os.WriteFile(empty, []byte(" \n"), 0o600)
	if _, err := FromFile(empty); !errors.Is(err, ErrNoToken) {
		t.Error(err)
	}
	big, binary, pipe := filepath.Join(dir, "big"), filepath.Join(dir, "binary"), filepath.Join(dir, "pipe")
	os.WriteFile(big, []byte(strings.Repeat("a", maxToken+1)), 0o600)
	os.WriteFile(binary, []byte("abc\x00\xff"), 0o600)
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, big, binary, pipe} {
		if got, err := FromFile(path); err == nil || errors.Is(err, ErrNoToken) || !strings.Contains(err.Error(), path+" is not a token file") {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	for _, value := range []string{"abc\xff", strings.Repeat("a", maxToken+1)} {
		t.Setenv("STILE_TEST_A", value)
		if got, err := FromEnvironment("STILE_TEST_A"); err == nil || got != "" || !strings.Contains(err.Error(), "STILE_TEST_A") || strings.Contains(err.Error(), value) {
			t.Errorf("%q, %v", got, err)
		}
	}
	if err := Delete(empty); err != nil {
		t.Error(err)
	}
	if err := Delete(empty); err != nil {
		t.Error("twice:", err)
	}
}
