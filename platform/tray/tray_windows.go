package tray

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// A Tray is the program's place in the notification area. Show and Notify may
// be called from any goroutine.
type Tray struct {
	config Config

	mu      sync.Mutex // guards the rest
	window  windows.Handle
	tree    tree
	icon    []string
	tooltip string
	notes   []Note // to be shown
}

// New shows nothing yet. Who got a Tray has to Run it.
func New(c Config) (*Tray, error) { return &Tray{config: c}, nil }

// Messages that the window gets, beside those of the system.
const (
	fromIcon = wmApp + iota // something happened to the icon
	redraw                  // Show or Notify was called
	end                     // Run is to return
)

// Run keeps the icon in the taskbar until ctx ends. The error tells that the
// desktop ended before.
func (t *Tray) Run(ctx context.Context) error {
	runtime.LockOSThread() // a window belongs to a thread
	defer runtime.UnlockOSThread()
	w := area{Tray: t}
	if err := w.open(); err != nil {
		return fmt.Errorf("%w: %w", ErrNoDesktop, err)
	}
	defer w.close()
	defer context.AfterFunc(ctx, func() { post(w.window, end) })()
	var m message
	for {
		if got, _, _ := getMessage.Call(uintptr(unsafe.Pointer(&m)), 0, 0, 0); int32(got) <= 0 {
			return ctx.Err()
		}
		dispatchMessage.Call(uintptr(unsafe.Pointer(&m)))
	}
}

// Show makes the desktop show l. It costs nothing if it does already.
func (t *Tray) Show(l Look) {
	t.mu.Lock()
	t.tree.update(l.Items, time.Now())
	changed := !slices.Equal(t.icon, l.Icon) || t.tooltip != l.Tooltip
	t.icon, t.tooltip = l.Icon, l.Tooltip
	window := t.window
	t.mu.Unlock()
	if changed && window != 0 {
		post(window, redraw)
	}
}

// Notify shows a message. It never blocks.
func (t *Tray) Notify(n Note) {
	t.mu.Lock()
	t.notes = slices.DeleteFunc(t.notes, func(old Note) bool { return old.Key == n.Key })
	if len(t.notes) < queuedNotes {
		t.notes = append(t.notes, n)
	}
	window := t.window
	t.mu.Unlock()
	if window != 0 {
		post(window, redraw)
	}
}

// An area is the thread that owns the window behind the icon.
type area struct {
	*Tray
	class   *uint16
	data    notifyIconData // as the taskbar knows it
	shown   []string       // the icon of data
	added   bool           // the taskbar has the icon
	told    bool           // Config.Hosted was told
	hosted  bool           // what it was told
	key     string         // of the note that was shown last
	clicked any            // what a click on it means
	restart uint32         // the message that tells of a new taskbar
}

// iconID tells our icons apart: there is one.
const iconID = 1

// retryTimer is due while the taskbar has not taken the icon.
const (
	retryTimer = 1
	retryMS    = 1000
)

func (w *area) open() error {
	var instance windows.Handle
	if err := windows.GetModuleHandleEx(0, nil, &instance); err != nil {
		return err
	}
	w.class = windows.StringToUTF16Ptr("StileTray")
	class := windowClass{Size: uint32(unsafe.Sizeof(windowClass{})), Proc: windows.NewCallback(w.handle), Instance: instance, Name: w.class}
	if got, _, err := registerClass.Call(uintptr(unsafe.Pointer(&class))); got == 0 {
		return fmt.Errorf("register a window class: %w", err)
	}
	name := windows.StringToUTF16Ptr("TaskbarCreated")
	restart, _, _ := registerWindowMessage.Call(uintptr(unsafe.Pointer(name)))
	w.restart = uint32(restart)
	title := windows.StringToUTF16Ptr(w.config.Title)
	window, _, err := createWindow.Call(0, uintptr(unsafe.Pointer(w.class)), uintptr(unsafe.Pointer(title)), 0, 0, 0, 0, 0, 0, 0, uintptr(instance), 0)
	if window == 0 {
		return fmt.Errorf("make a window: %w", err)
	}
	w.data = notifyIconData{Size: uint32(unsafe.Sizeof(notifyIconData{})), Window: windows.Handle(window), ID: iconID, Callback: fromIcon}
	w.mu.Lock()
	w.window = windows.Handle(window)
	w.mu.Unlock()
	w.draw()
	return nil
}

func (w *area) close() {
	shellNotifyIcon.Call(nimDelete, uintptr(unsafe.Pointer(&w.data)))
	w.mu.Lock()
	window := w.window
	w.window = 0
	w.mu.Unlock()
	destroyWindow.Call(uintptr(window))
	if w.data.Icon != 0 {
		destroyIcon.Call(uintptr(w.data.Icon))
	}
	unregisterClass.Call(uintptr(unsafe.Pointer(w.class)), 0)
}

// handle is the window's procedure.
func (w *area) handle(window windows.Handle, what uint32, wParam, lParam uintptr) uintptr {
	switch what {
	case end:
		postQuitMessage.Call(0)
		return 0
	case redraw:
		w.draw()
		return 0
	case w.restart:
		w.added = false
		w.draw()
		return 0
	case wmTimer:
		killTimer.Call(uintptr(window), retryTimer)
		w.draw()
		return 0
	case wmEndSession:
		if wParam != 0 {
			postQuitMessage.Call(0)
		}
		return 0
	case fromIcon:
		w.happened(uint32(lParam & 0xffff))
		return 0
	}
	result, _, _ := defWindowProc.Call(uintptr(window), uintptr(what), wParam, lParam)
	return result
}

// happened acts on what the user did to the icon or to a note.
func (w *area) happened(what uint32) {
	switch what {
	case wmLButtonUp, wmRButtonUp:
		w.openMenu()
	case ninBalloonUserClick:
		if w.clicked != nil {
			w.config.Click(w.clicked)
		}
		w.clicked = nil
	case ninBalloonTimeout, ninBalloonHide:
		w.draw() // the next one
	}
}

// draw brings the taskbar to what is to be shown.
func (w *area) draw() {
	w.mu.Lock()
	icon, tooltip := w.icon, w.tooltip
	var note *Note
	for note == nil && w.added && len(w.notes) > 0 {
		if first := w.notes[0]; first.Title != "" || first.Key == w.key { // an empty one hides the one that is shown
			note, w.key = &first, first.Key
		}
		w.notes = w.notes[1:]
	}
	w.mu.Unlock()
	if len(icon) == 0 {
		return
	}
	old := windows.Handle(0)
	if !slices.Equal(w.shown, icon) {
		old, w.data.Icon, w.shown = w.data.Icon, newIcon(icon), icon
	}
	w.data.Flags = nifMessage | nifIcon | nifTip
	put(w.data.Tip[:], tooltip)
	if note != nil {
		w.data.Flags |= nifInfo
		put(w.data.InfoTitle[:], note.Title)
		text := note.Text
		if text == "" && note.Title != "" {
			text = " " // without text nothing is shown
		}
		put(w.data.Info[:], text)
		w.data.InfoFlags = niifUser | niifLargeIcon
		w.clicked = note.Command
	}
	w.send()
	if old != 0 {
		destroyIcon.Call(uintptr(old))
	}
}

// send tells the taskbar of the icon. At login it may not be there yet, and
// takes the icon later.
func (w *area) send() {
	how := uintptr(nimAdd)
	if w.added {
		how = nimModify
	}
	got, _, _ := shellNotifyIcon.Call(how, uintptr(unsafe.Pointer(&w.data)))
	if got == 0 && w.added { // it forgot us
		got, _, _ = shellNotifyIcon.Call(nimAdd, uintptr(unsafe.Pointer(&w.data)))
	}
	w.added = got != 0
	if !w.added {
		setTimer.Call(uintptr(w.data.Window), retryTimer, retryMS, 0)
	}
	if !w.told || w.hosted != w.added {
		w.told, w.hosted = true, w.added
		w.config.Hosted(w.added)
	}
}
