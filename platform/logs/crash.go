package logs

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
)

// maxCrash is how much of a crash is told, in bytes.
const maxCrash = 16 << 10

// KeepCrashes has the runtime write what it says of a crash of this process to a
// file beside the logs, because nobody can log any more then, and logs what it
// said the last time as one record. A main calls it once, early.
func (l *Log) KeepCrashes() error {
	if l.file == nil {
		return nil
	}
	path := filepath.Join(l.config.Dir, l.config.Base+".crash")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, l.config.Mode)
	if err != nil {
		return fmt.Errorf("keep what a crash says: %w", err)
	}
	defer f.Close() // the runtime has its own handle
	if text, err := io.ReadAll(io.LimitReader(f, maxCrash)); err == nil && len(text) > 0 {
		info, _ := f.Stat()
		what, stack, _ := strings.Cut(string(text), "\n")
		l.Logger().Error("the program crashed: "+what, "at", info.ModTime(), "stack", strings.TrimSpace(stack))
	}
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("forget the last crash: %w", err)
	}
	if err := debug.SetCrashOutput(f, debug.CrashOptions{}); err != nil {
		return fmt.Errorf("keep what a crash says: %w", err)
	}
	return nil
}
