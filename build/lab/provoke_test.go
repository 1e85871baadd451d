//go:build linux

package main

import (
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Signals, of which Go's runtime sends some whenever it is busy, neither end the
// wait nor prolong it.
func TestAwait(t *testing.T) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ends[0])
	defer unix.Close(ends[1])
	thread, told := make(chan int), make(chan error)
	wait := func(patience time.Duration) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		thread <- unix.Gettid()
		told <- await(ends[0], unix.POLLIN, patience)
	}
	disturb := func(thread, times int) {
		for range times {
			time.Sleep(time.Millisecond)
			if err := unix.Tgkill(os.Getpid(), thread, unix.SIGURG); err != nil {
				t.Fatal(err)
			}
		}
	}
	const enough = 100

	go wait(time.Hour)
	disturb(<-thread, enough)
	select {
	case err := <-told:
		t.Fatalf("it ends early: %v", err)
	default:
	}
	if _, err := unix.Write(ends[1], []byte{1}); err != nil {
		t.Fatal(err)
	}
	if err := <-told; err != nil {
		t.Error(err)
	}

	if _, err := unix.Read(ends[0], make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	go wait(enough * time.Millisecond)
	id := <-thread
	for end := time.After(time.Minute); ; disturb(id, 1) {
		select {
		case err := <-told:
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
			return
		case <-end:
			t.Fatal("signals prolong the wait")
		default:
		}
	}
}
