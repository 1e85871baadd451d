package support

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"stile/app/words"
	"stile/platform/ipcsock"
	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
)

// A lack is something that is not in an archive, and why.
type lack struct {
	what  missing
	name  string // of a file
	files int    // that the disk had no room for
	why   error
}

// A missing is a kind of lack.
type missing uint8

const (
	wholeFile  missing = iota
	partOfFile         // or all of it
	allOfService
	partOfService
	roomOnDisk
)

// say puts a lack into a sentence.
func (g lack) say(w *words.Words) string {
	t, why := w.Console(), explain(w, g.why)
	switch g.what {
	case partOfFile:
		return t.MissingPart(g.name, why)
	case allOfService:
		return t.MissingService(why)
	case partOfService:
		return t.MissingRest(why)
	case roomOnDisk:
		return t.MissingDisk(strconv.Itoa(g.files), why)
	}
	return t.MissingFile(g.name, why)
}

// explain says why something cannot be had.
func explain(w *words.Words, err error) string {
	t := w.Console()
	if p, is := errors.AsType[*ipc.Problem](err); is {
		return strings.TrimSuffix(w.Problem(p), ".")
	}
	switch {
	case errors.Is(err, os.ErrPermission):
		return t.NotReadable
	case errors.Is(err, ipcsock.ErrNobody):
		return t.NotRunning
	case errors.Is(err, os.ErrNotExist):
		return t.NotThere
	case errors.Is(err, errIdle), errors.Is(err, link.ErrSilent):
		return t.NotAnswering
	case errors.Is(err, ipcsock.ErrDenied):
		return strings.TrimSuffix(w.MayNotSpeak, ".")
	case errors.Is(err, link.ErrStranger):
		return strings.TrimSuffix(w.Stranger, ".")
	case errors.Is(err, link.ErrGone), errors.Is(err, ipc.ErrFrame), errors.Is(err, ipc.ErrMessage):
		return strings.TrimSuffix(w.BrokeOff, ".")
	case errors.Is(err, errTooLong):
		return t.TooLong(strconv.Itoa(maxFile >> 20))
	}
	return strings.TrimSuffix(err.Error(), ".")
}

// Say is Missing in a language; that of a Result which was read from JSON stays
// as it is.
func (r *Result) Say(w *words.Words) []string {
	if r.lacks == nil {
		return r.Missing
	}
	var list []string
	for _, g := range r.lacks {
		list = append(list, g.say(w))
	}
	return list
}
