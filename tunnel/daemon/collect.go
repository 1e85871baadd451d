package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"stile/tunnel/flight"
	"stile/tunnel/ipc"
)

// maxCollected bounds what one export takes of the service's files, in bytes;
// the logs are capped at 100 MB (spec desktop-client.md 20.1).
const maxCollected = 160 << 20

// A collection is one export's part of the service.
type collection struct {
	*daemon
	ctx    context.Context
	put    func(ipc.Part) error
	secret []byte // what must not leave, whoever asks; nil: there is none
	left   int64
}

// collect hands over the service's part of an export: its logs, what it is set
// to, what its goroutines do, and its flight record. One at a time: it costs memory and disk time
// that belong to the tunnel. Only names of our own are opened, and no path comes
// from the caller.
func (d *daemon) collect(ctx context.Context, put func(ipc.Part) error) error {
	if !d.collecting.TryLock() {
		return ipc.SayExportRuns.With()
	}
	defer d.collecting.Unlock()
	v := d.seen()
	c := &collection{daemon: d, ctx: ctx, put: put, secret: []byte(v.wish.Token.Reveal())}
	files := d.logFiles()
	for _, f := range files {
		c.left += f.size
	}
	if err := c.small("service/settings.json", d.describeSettings(v)); err != nil {
		return err
	}
	var stacks bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&stacks, 1); err == nil {
		if err := c.small("service/goroutines.txt", stacks.Bytes()); err != nil {
			return err
		}
	}
	if err := c.flight("service/flight/record.jsonl"); err != nil {
		return err
	}
	for _, f := range files {
		folder := "service/logs/"
		if isRecord(f.path) {
			folder = "service/flight/"
		}
		if err := c.file(folder+filepath.Base(f.path), f.path, f.size); err != nil {
			return err
		}
	}
	return nil
}

// flight puts the flight record as it is now.
func (c *collection) flight(name string) error {
	return c.daemon.flight.Dump(parts(func(text []byte) error { return c.small(name, text) }), flight.Order{Reason: "export", Limit: maxExported})
}

// parts are a writer of whole lines.
type parts func([]byte) error

func (p parts) Write(b []byte) (int, error) { return len(b), p(b) }

// isRecord reports whether a file is a flight record that was kept.
func isRecord(path string) bool { return filepath.Ext(path) == ".jsonl" }

// settings is what the service runs with, without secrets.
func (d *daemon) describeSettings(v view) []byte {
	s := d.settings(v.wish, v.policy)
	text, err := json.MarshalIndent(struct {
		Version     string          `json:"version"`
		Portal      string          `json:"portal"`
		AuthURL     string          `json:"auth_url"`
		Settings    ipc.Settings    `json:"settings"` // in effect
		TokenSource ipc.TokenSource `json:"token_source"`
		Account     string          `json:"account"`
		Actor       string          `json:"actor"`
		Device      string          `json:"device_name"`
		DeviceID    string          `json:"device_id"`
		UserAgent   string          `json:"user_agent"`
		CAFile      string          `json:"ca_file"`
		DNS         string          `json:"dns_control"`
		Internet    bool            `json:"internet"`
		MaxAway     string          `json:"max_partition_time"`
		StateDir    string          `json:"state_dir"`
		Socket      string          `json:"socket"`
	}{
		d.Version, s.APIURL, s.AuthURL, s, v.wish.Source, v.wish.Account, v.wish.Actor, d.Portal.Name, d.Portal.ExternalID, d.Portal.UserAgent,
		d.Portal.CAFile, string(d.DNS), v.wish.Internet || d.Internet, d.Portal.MaxPartition.String(), d.StateDir, d.Socket,
	}, "", "  ")
	if err != nil {
		panic(err) // strings and truth values
	}
	return append(text, '\n')
}

// A logFile is one of ours.
type logFile struct {
	path string
	size int64
	at   time.Time
}

// logFiles lists the service's log files, the latest first: if there is not room
// for all, the oldest are left out.
func (d *daemon) logFiles() (list []logFile) {
	if d.Logs == nil || d.Logs.Dir() == "" {
		return nil
	}
	entries, err := os.ReadDir(d.Logs.Dir())
	if err != nil {
		d.Log.Warn("the log files cannot be exported", "error", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && info.Mode().IsRegular() && (strings.HasSuffix(e.Name(), ".log") || isRecord(e.Name())) && ipc.IsFileName(e.Name()) {
			list = append(list, logFile{filepath.Join(d.Logs.Dir(), e.Name()), info.Size(), info.ModTime()})
		}
	}
	slices.SortFunc(list, func(a, b logFile) int { return b.at.Compare(a.at) })
	var total int64
	for i, f := range list {
		if total += f.size; total > maxCollected {
			return list[:i]
		}
	}
	return list
}

// small puts a file that is in memory.
func (c *collection) small(name string, text []byte) error {
	for len(text) > 0 {
		n := min(len(text), ipc.MaxFilePart)
		if err := c.piece(name, text[:n]); err != nil {
			return err
		}
		text = text[n:]
	}
	return nil
}

// file puts a file as far as it was long when it was listed: it may grow
// meanwhile, for ever.
func (c *collection) file(name, path string, size int64) error {
	f, err := os.Open(path)
	if err != nil {
		c.left -= size
		return c.put(ipc.Part{File: &ipc.FilePart{Name: name, Left: c.left, Missing: fmt.Sprintf("%v", err)}})
	}
	defer f.Close()
	in, buf, kept := io.LimitReader(f, size), make([]byte, ipc.MaxFilePart), 0
	for {
		n, err := io.ReadFull(in, buf[kept:])
		c.left -= int64(n)
		text := buf[:kept+n]
		kept = 0
		if err == nil { // a part ends with a line, so that no secret is in two
			if end := bytes.LastIndexByte(text, '\n') + 1; end > 0 {
				text, kept = text[:end], len(text)-end
			}
		}
		if len(text) > 0 {
			if err := c.piece(name, text); err != nil {
				return err
			}
		}
		copy(buf, buf[len(text):len(text)+kept])
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return nil
		case err != nil:
			return c.put(ipc.Part{File: &ipc.FilePart{Name: name, Left: c.left, Missing: fmt.Sprintf("%v", err)}})
		}
	}
}

// piece puts a part of a file, without the token should it be there.
func (c *collection) piece(name string, text []byte) error {
	if err := c.ctx.Err(); err != nil {
		return ipc.SayStopping.With()
	}
	if len(c.secret) > 0 && bytes.Contains(text, c.secret) {
		text = bytes.ReplaceAll(text, c.secret, []byte("[redacted]"))
	}
	return c.put(ipc.Part{File: &ipc.FilePart{Name: name, Data: text, Left: max(c.left, 0)}})
}
