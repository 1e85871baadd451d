// Package support makes the file that a user hands to whoever helps: logs,
// state, DNS, routes and settings of this machine in one zip archive, without
// secrets and, unless the user wants it otherwise, without names.
//
// The service's own files are readable by root only. The service reads them and
// sends them over the local socket to whoever may control it; the archive is
// written by the user's program, with the user's rights. Without a service the
// archive has what the user may read, and says what is missing. Root, too, has the
// rights of the user in the user's folders, who may have put links there.
package support

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"stile/app/words"
	"stile/platform/dnsctl"
	"stile/platform/machine"
	"stile/platform/route"
	"stile/tunnel/ipc/link"
)

// Options say what to export, and where.
type Options struct {
	Socket string // of the service; "": link.Socket
	// Out is the file to write; one that is there is replaced. A folder gets a file
	// of the name that Name gives; "" is the one that the program runs in.
	Out string
	// Full keeps names of people, hosts and things, and addresses. Secrets are
	// never kept.
	Full bool
	// AppLogs are folders with the logs of the user's programs; nil: AppLogs().
	AppLogs []string
	Now     func() time.Time // nil: time.Now

	system *surroundings // nil: this machine
}

// surroundings are what is asked of the machine itself.
type surroundings struct {
	dnsFiles []string
	routes   func() (string, error)
	vitals   func() []byte
	patience time.Duration // with a service that gives nothing
}

// A Result is what became of an export.
type Result struct {
	Path  string `json:"path"`  // absolute
	Bytes int64  `json:"bytes"` // of the archive
	Files int    `json:"files"` // in it
	// Missing says in sentences what is not in the archive, and why.
	Missing []string `json:"missing"`
	// Pseudonyms is how many names and addresses were replaced.
	Pseudonyms int `json:"pseudonyms"`
	// DiskFull tells that the disk had no room for all of it.
	DiskFull bool `json:"disk_full"`

	lacks []lack // what Missing says; nil: not known, or nothing
}

// Name is the name of an archive made at t.
func Name(t time.Time) string { return "stile_logs_" + t.Format("2006-01-02-15-04-05") + ".zip" }

// AppLogs are the folders in which the programs of this user log.
func AppLogs() []string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return nil
	}
	return []string{filepath.Join(dir, "stile", "logs")}
}

// ErrNothing means that not even a part of the archive could be written, for the
// reason that follows it.
var ErrNothing = errors.New("no export was written")

// Export writes an archive. progress, if it is not nil, is told now and then how
// much of all sources is done, in bytes; total may grow. A service that is down
// is no error, and neither is a disk that has room for a part only: Missing
// says so. An error that is ErrNothing leaves no file behind.
func Export(ctx context.Context, o Options, progress func(done, total int64)) (Result, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Socket == "" {
		o.Socket = link.Socket
	}
	name := Name(o.Now())
	if info, err := os.Stat(o.Out); o.Out == "" || err == nil && info.IsDir() {
		o.Out = filepath.Join(o.Out, name)
	}
	if path, err := filepath.Abs(o.Out); err == nil {
		o.Out = path
	}
	if o.AppLogs == nil {
		o.AppLogs = AppLogs()
	}
	if o.system == nil {
		o.system = &surroundings{dnsctl.Files(), route.Show, machine.Vitals, idleTime}
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	a, err := create(o.Out, strings.TrimSuffix(name, ".zip"))
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrNothing, err)
	}
	defer a.abandon()
	e := &export{Options: o, ctx: ctx, archive: a, redactor: newRedactor(o.Full), progress: progress}
	e.run()
	if err := ctx.Err(); err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrNothing, err)
	}
	if err := a.finish(); err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrNothing, err)
	}
	r := Result{Path: o.Out, Bytes: a.size, Files: len(a.entries), lacks: e.missing, DiskFull: a.full != nil}
	if !o.Full {
		r.Pseudonyms = len(e.given)
	}
	if a.full != nil {
		r.lacks = append(r.lacks, lack{what: roomOnDisk, files: a.lost, why: plainly(a.full)})
	}
	r.Missing = append([]string{}, r.Say(&words.English)...)
	return r, nil
}

// plainly is why a file could not be written, without its name.
func plainly(err error) error {
	if at, is := errors.AsType[*os.PathError](err); is {
		return at.Err
	}
	return err
}
