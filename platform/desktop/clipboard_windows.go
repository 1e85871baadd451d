package desktop

import (
	"context"
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	clipboard32 = windows.NewLazySystemDLL("user32.dll")
	kernel32    = windows.NewLazySystemDLL("kernel32.dll")

	openClipboard    = clipboard32.NewProc("OpenClipboard")
	closeClipboard   = clipboard32.NewProc("CloseClipboard")
	emptyClipboard   = clipboard32.NewProc("EmptyClipboard")
	setClipboardData = clipboard32.NewProc("SetClipboardData")
	globalAlloc      = kernel32.NewProc("GlobalAlloc")
	globalFree       = kernel32.NewProc("GlobalFree")
	globalLock       = kernel32.NewProc("GlobalLock")
	globalUnlock     = kernel32.NewProc("GlobalUnlock")
	moveMemory       = kernel32.NewProc("RtlMoveMemory")
)

const (
	gmemMoveable    = 2
	cfUnicodeText   = 13
	clipboardTryGap = 20 * time.Millisecond
)

func copyText(ctx context.Context, text string) error {
	u, err := windows.UTF16FromString(text)
	if err != nil {
		return err
	}
	runtime.LockOSThread() // the clipboard is opened by a thread
	defer runtime.UnlockOSThread()
	for { // one program at a time has it
		if got, _, err := openClipboard.Call(0); got != 0 {
			break
		} else if ctx.Err() != nil {
			return fmt.Errorf("another program holds the clipboard: %w", err)
		}
		time.Sleep(clipboardTryGap)
	}
	defer closeClipboard.Call()
	size := uintptr(len(u)) * unsafe.Sizeof(u[0])
	memory, _, err := globalAlloc.Call(gmemMoveable, size)
	if memory == 0 {
		return err
	}
	at, _, err := globalLock.Call(memory)
	if at == 0 {
		globalFree.Call(memory)
		return err
	}
	moveMemory.Call(at, uintptr(unsafe.Pointer(&u[0])), size)
	globalUnlock.Call(memory)
	emptyClipboard.Call()
	if got, _, err := setClipboardData.Call(cfUnicodeText, memory); got == 0 {
		globalFree.Call(memory) // otherwise it is the system's
		return fmt.Errorf("copy: %w", err)
	}
	return nil
}
