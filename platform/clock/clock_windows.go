package clock

import (
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// interruptTime counts 100 ns steps since boot, sleep included, and exists
// from Windows 10 on.
var interruptTime = windows.NewLazySystemDLL("kernelbase.dll").NewProc("QueryInterruptTimePrecise")

// sinceBoot falls back to GetTickCount64, which counts the same in steps of
// about 16 ms.
func sinceBoot() time.Duration {
	if interruptTime.Find() != nil {
		return windows.DurationSinceBoot()
	}
	var ticks uint64
	interruptTime.Call(uintptr(unsafe.Pointer(&ticks)))
	return time.Duration(ticks) * 100
}
