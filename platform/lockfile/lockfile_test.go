package lockfile

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The test runs itself, as the other process.
func TestMain(m *testing.M) {
	if path := os.Getenv("LOCK_PATH"); path != "" {
		_, err := Take(path, "the other process")
		fmt.Println(err)
		if err != nil {
			os.Exit(1)
		}
		os.Stdin.Read(make([]byte, 1)) // until the end
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestOneHolderAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := Take(path, "a longer note of the first")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Take(path, "second"); !errors.Is(err, ErrTaken) {
		t.Errorf("second: %v", err)
	}
	if note, err := Note(path); note != "a longer note of the first" || err != nil {
		t.Errorf("%q, %v", note, err)
	}
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	second, err := Take(path, "second")
	if err != nil {
		t.Fatal(err)
	}
	defer second.Release()
	if note, err := Note(path); note != "second" || err != nil {
		t.Errorf("%q, %v", note, err)
	}
	if info, err := os.Stat(path); err != nil || os.PathSeparator == '/' && info.Mode().Perm()&0o077 != 0 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestAKilledHolderHoldsNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), "LOCK_PATH="+path)
	hold, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	told, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(told).ReadString('\n'); line != "<nil>\n" {
		t.Errorf("%q, %v", line, err)
	}
	if _, err := Take(path, ""); !errors.Is(err, ErrTaken) {
		t.Errorf("while it is held: %v", err)
	}
	if note, _ := Note(path); note != "the other process" {
		t.Errorf("%q", note)
	}
	other.Process.Kill()
	other.Wait()
	l, err := Take(path, "")
	if err != nil {
		t.Fatalf("after its death: %v", err)
	}
	l.Release()
}

func TestALockNeedsItsFolder(t *testing.T) {
	dir := t.TempDir()
	if _, err := Take(filepath.Join(dir, "none", "lock"), ""); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := Take(dir, ""); err == nil {
		t.Error("a folder was locked")
	}
	if _, err := Note(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
