package tray

import (
	"bytes"
	"image/png"
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	user32  = windows.NewLazySystemDLL("user32.dll")
	shell32 = windows.NewLazySystemDLL("shell32.dll")
	gdi32   = windows.NewLazySystemDLL("gdi32.dll")

	registerClass          = user32.NewProc("RegisterClassExW")
	unregisterClass        = user32.NewProc("UnregisterClassW")
	registerWindowMessage  = user32.NewProc("RegisterWindowMessageW")
	createWindow           = user32.NewProc("CreateWindowExW")
	destroyWindow          = user32.NewProc("DestroyWindow")
	defWindowProc          = user32.NewProc("DefWindowProcW")
	getMessage             = user32.NewProc("GetMessageW")
	dispatchMessage        = user32.NewProc("DispatchMessageW")
	postMessage            = user32.NewProc("PostMessageW")
	postQuitMessage        = user32.NewProc("PostQuitMessage")
	setTimer               = user32.NewProc("SetTimer")
	killTimer              = user32.NewProc("KillTimer")
	getCursorPos           = user32.NewProc("GetCursorPos")
	setForegroundWindow    = user32.NewProc("SetForegroundWindow")
	createPopupMenu        = user32.NewProc("CreatePopupMenu")
	destroyMenu            = user32.NewProc("DestroyMenu")
	insertMenuItem         = user32.NewProc("InsertMenuItemW")
	trackPopupMenu         = user32.NewProc("TrackPopupMenuEx")
	createIconFromResource = user32.NewProc("CreateIconFromResourceEx")
	destroyIcon            = user32.NewProc("DestroyIcon")
	getSystemMetrics       = user32.NewProc("GetSystemMetrics")
	shellNotifyIcon        = shell32.NewProc("Shell_NotifyIconW")
	createDIBSection       = gdi32.NewProc("CreateDIBSection")
	deleteObject           = gdi32.NewProc("DeleteObject")
)

// Numbers of the system.
const (
	wmNull       = 0x0000
	wmEndSession = 0x0016
	wmTimer      = 0x0113
	wmLButtonUp  = 0x0202
	wmRButtonUp  = 0x0205
	wmApp        = 0x8000

	ninBalloonHide      = 0x0403
	ninBalloonTimeout   = 0x0404
	ninBalloonUserClick = 0x0405

	nimAdd, nimModify, nimDelete                      = 0, 1, 2
	nifMessage, nifIcon, nifTip, nifInfo              = 1, 2, 4, 16
	niifUser, niifLargeIcon                           = 4, 32
	miimState, miimID, miimSubMenu                    = 1, 2, 4
	miimString, miimBitmap, miimFType                 = 64, 128, 256
	mftSeparator                                      = 0x800
	mfsDisabled, mfsChecked                           = 3, 8
	tpmRightButton, tpmNoNotify, tpmReturnCmd         = 2, 128, 256
	smCXSmallIcon                                     = 49
	iconVersion                                       = 0x00030000
	defaultIconSide                           uintptr = 16
)

type point struct{ X, Y int32 }

type message struct {
	Window  windows.Handle
	Message uint32
	W, L    uintptr
	Time    uint32
	At      point
	Private uint32
}

type windowClass struct {
	Size, Style                        uint32
	Proc                               uintptr
	ClassExtra, WindowExtra            int32
	Instance, Icon, Cursor, Background windows.Handle
	MenuName, Name                     *uint16
	SmallIcon                          windows.Handle
}

type notifyIconData struct {
	Size                uint32
	Window              windows.Handle
	ID, Flags, Callback uint32
	Icon                windows.Handle
	Tip                 [128]uint16
	State, StateMask    uint32
	Info                [256]uint16
	Version             uint32
	InfoTitle           [64]uint16
	InfoFlags           uint32
	Item                windows.GUID
	BalloonIcon         windows.Handle
}

type menuItemInfo struct {
	Size, Mask, Type, State, ID uint32
	SubMenu, Checked, Unchecked windows.Handle
	Data                        uintptr
	TypeData                    *uint16
	Length                      uint32
	Bitmap                      windows.Handle
}

type bitmapHeader struct {
	Size                   uint32
	Width, Height          int32
	Planes, Bits           uint16
	Compression, ImageSize uint32
	X, Y                   int32
	Used, Important        uint32
}

func post(window windows.Handle, what uintptr) { postMessage.Call(uintptr(window), what, 0, 0) }

// newIcon makes an icon of the picture that fits the taskbar best: the smallest
// that is large enough. 0: none can be used.
func newIcon(pictures []string) windows.Handle {
	side, _, _ := getSystemMetrics.Call(smCXSmallIcon)
	if side == 0 {
		side = defaultIconSide
	}
	best := pictures[len(pictures)-1]
	for _, p := range pictures {
		if c, err := png.DecodeConfig(bytes.NewReader([]byte(p))); err == nil && uintptr(c.Width) >= side {
			best = p
			break
		}
	}
	b := []byte(best)
	icon, _, _ := createIconFromResource.Call(uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 1, iconVersion, side, side, 0)
	return windows.Handle(icon)
}

// newBitmap makes a bitmap with an alpha channel, premultiplied as menus want
// it. 0: it cannot be made.
func newBitmap(picture string) windows.Handle {
	p, err := decode(picture)
	if err != nil {
		return 0
	}
	width, height := p.Rect.Dx(), p.Rect.Dy()
	h := bitmapHeader{Width: int32(width), Height: -int32(height), Planes: 1, Bits: 32}
	h.Size = uint32(unsafe.Sizeof(h))
	var bits *byte
	bitmap, _, _ := createDIBSection.Call(0, uintptr(unsafe.Pointer(&h)), 0, uintptr(unsafe.Pointer(&bits)), 0, 0)
	if bitmap == 0 || bits == nil {
		return 0
	}
	out := unsafe.Slice(bits, 4*width*height)
	for i := 0; i+3 < len(p.Pix) && i+3 < len(out); i += 4 {
		a := uint16(p.Pix[i+3])
		for c := range 3 { // red, green, blue become blue, green, red
			out[i+2-c] = byte(uint16(p.Pix[i+c]) * a / 255)
		}
		out[i+3] = byte(a)
	}
	return windows.Handle(bitmap)
}
