package tray

import (
	"context"
	"unsafe"
)

var messageBox = user32.NewProc("MessageBoxW")

const mbIconWarning, mbSetForeground = 0x30, 0x10000

// Alert shows a message of a program that ends, and returns when the user has
// seen it.
func Alert(_ context.Context, c Config, n Note) {
	text := n.Title
	if n.Text != "" {
		text += "\n\n" + n.Text
	}
	messageBox.Call(0, uintptr(unsafe.Pointer(utf16(text))), uintptr(unsafe.Pointer(utf16(c.Title))), mbIconWarning|mbSetForeground)
}
