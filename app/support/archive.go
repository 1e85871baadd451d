package support

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"stile/platform/owner"
)

// An archive is a zip file under way: a partial file beside the final one,
// which takes its place when all is written. When the disk is full it keeps the
// files that are complete.
type archive struct {
	path    string // the final one
	root    string // the folder that all files are in
	out     *os.File
	zip     *zip.Writer
	entries []entry // complete ones
	size    int64
	full    error // why nothing more could be written; nil: all could
	lost    int   // files that came after that
	done    bool

	// The file under way, compressed in memory: it goes out whole or not at all.
	header *zip.FileHeader
	packed bytes.Buffer
	deflat *flate.Writer
}

// An entry is a file in the archive.
type entry struct {
	header *zip.FileHeader
	end    int64 // where it ends in the archive
}

// create begins an archive that only its owner may read. What it is called may
// have a name in it; root, the folder inside, has none.
func create(path, root string) (*archive, error) {
	a := &archive{path: path, root: root}
	err := owner.As(filepath.Dir(path), func() (err error) {
		a.out, err = os.CreateTemp(filepath.Dir(path), "."+strings.TrimSuffix(filepath.Base(path), ".zip")+".*.zip-partial") // mode 0600
		return err
	})
	if err != nil {
		return nil, err
	}
	a.zip = zip.NewWriter(a)
	a.deflat, err = flate.NewWriter(&a.packed, flate.BestSpeed) // logs shrink to a tenth either way
	return a, err
}

// Write takes what the zip writer makes.
func (a *archive) Write(b []byte) (int, error) {
	if a.full != nil {
		return 0, a.full
	}
	n, err := a.out.Write(b)
	a.size += int64(n)
	a.full = err
	return n, err
}

// begin begins a file; what is put next is in it.
func (a *archive) begin(name string, at time.Time) {
	a.end()
	a.header = header(a.root+"/"+name, at)
	a.packed.Reset()
	a.deflat.Reset(&a.packed)
}

// header makes the header of a file of which the sizes come later.
func header(name string, at time.Time) *zip.FileHeader {
	h := &zip.FileHeader{Name: name, Modified: at}
	h.SetMode(0o600)
	// Only this fills in the fields that say when a file was modified; what follows
	// the header belongs to nobody.
	_, _ = zip.NewWriter(io.Discard).CreateHeader(h)
	h.Method, h.Flags = zip.Deflate, h.Flags&^0x8 // sizes stand before the content
	return h
}

// put appends to the file begun last.
func (a *archive) put(b []byte) {
	if a.header == nil || a.full != nil {
		return
	}
	a.header.CRC32 = crc32.Update(a.header.CRC32, crc32.IEEETable, b)
	a.header.UncompressedSize64 += uint64(len(b))
	a.deflat.Write(b) // into memory
}

// end writes the file begun last, if there is room for it.
func (a *archive) end() {
	h := a.header
	if h == nil {
		return
	}
	a.header = nil
	a.deflat.Close()
	h.CompressedSize64 = uint64(a.packed.Len())
	if a.full == nil {
		if into, err := a.zip.CreateRaw(h); err == nil {
			into.Write(a.packed.Bytes())
			a.zip.Flush()
		}
	}
	if a.full != nil { // whatever failed, it is a.out that did
		a.lost++
		return
	}
	a.entries = append(a.entries, entry{h, a.size})
}

// finish writes the table of contents and puts the archive in its place.
func (a *archive) finish() error {
	a.end()
	if a.full == nil {
		a.zip.Close()
	}
	for a.full != nil {
		if len(a.entries) == 0 {
			return a.full
		}
		if a.salvage() == nil {
			break
		}
		a.entries = a.entries[:len(a.entries)-1] // makes room for the table
		a.lost++
	}
	if uid, gid, sudo := owner.Invoker(); sudo {
		_ = a.out.Chown(uid, gid) // else it stays root's
	}
	err := a.out.Sync()
	if e := a.out.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = owner.As(filepath.Dir(a.path), func() error { return os.Rename(a.out.Name(), a.path) })
	}
	a.done = err == nil
	return err
}

// salvage cuts off what is not complete, and writes a table of contents for the
// rest: a zip writer is led through the same files again, its output thrown away
// up to the end of the last.
func (a *archive) salvage() error {
	keep := a.entries[len(a.entries)-1].end
	if err := a.out.Truncate(keep); err != nil {
		return err
	}
	t := &tail{out: a.out, skip: keep}
	z := zip.NewWriter(t)
	for _, e := range a.entries {
		w, err := z.CreateRaw(e.header)
		if err != nil {
			return err
		}
		if _, err := io.CopyN(w, zeros{}, int64(e.header.CompressedSize64)); err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	a.size = t.at
	return nil
}

// A tail writes what comes after the first skip bytes.
type tail struct {
	out      io.WriterAt
	at, skip int64
}

func (t *tail) Write(b []byte) (int, error) {
	n := len(b)
	if t.at < t.skip {
		b = b[min(int64(n), t.skip-t.at):]
	}
	if len(b) > 0 {
		if _, err := t.out.WriteAt(b, t.at+int64(n-len(b))); err != nil {
			return 0, err
		}
	}
	t.at += int64(n)
	return n, nil
}

// zeros reads as zeros without end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// abandon removes an archive that was not finished.
func (a *archive) abandon() {
	if !a.done {
		a.out.Close()
		_ = owner.As(filepath.Dir(a.path), func() error { return os.Remove(a.out.Name()) })
	}
}
