package support

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"stile/app/words"
	"stile/build/stamp"
	"stile/platform/dirs"
	"stile/platform/machine"
	"stile/platform/owner"
	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
)

const (
	chunk       = ipc.MaxFilePart
	maxFile     = 50 << 20 // of one file (spec desktop-client.md 21)
	meetTime    = 5 * time.Second
	idleTime    = 10 * time.Second // without a part of what the service has
	settingSize = 64 << 10
)

// errIdle means that the service hangs: others may have its files.
var errIdle = errors.New("the service stopped answering")

// errTooLong means that a file is longer than an archive takes.
var errTooLong = errors.New("too long")

// An export is one under way.
type export struct {
	Options
	*redactor
	ctx      context.Context
	archive  *archive
	progress func(done, total int64)

	missing     []lack
	done, total int64
	form        form   // of the file under way
	lines       bool   // it has one JSON value a line
	held        []byte // the beginning of its next line
	scratch     []byte // of redact
	began       string // the file of the service's that is under way
	beganBytes  int64
}

// run collects everything, what tells most first: that is what a full disk
// keeps. What cannot be had is noted, and stops nothing.
func (e *export) run() {
	c, s, down := e.meet()
	if c != nil {
		defer c.Close()
	}
	e.learnMachine()
	if s != nil {
		e.learnState(s)
	}
	local := e.logFiles(s)
	for _, f := range local {
		e.total += f.size
		e.learnFile(f.path)
	}
	doctor := Examine(e.ctx, s)
	about := e.manifest(s, down)
	e.json("status.json", s)
	e.json("dns.json", doctor)
	e.json("manifest.json", about)
	e.summary(s, doctor, about)
	e.small("os.txt", e.system.vitals())
	if text, err := e.system.routes(); err != nil {
		e.miss("routes.txt", err)
	} else {
		e.small("routes.txt", []byte(text))
	}
	for _, path := range e.system.dnsFiles {
		e.path("dns/"+filepath.Base(path), path, true)
	}
	e.settings()
	switch {
	case c != nil:
		e.service(c)
	case down != nil:
		e.missing = append(e.missing, lack{what: allOfService, why: down})
	}
	for _, f := range local {
		e.path(f.name, f.path, false)
	}
	if len(e.missing) > 0 {
		r := Result{lacks: e.missing}
		e.small("missing.txt", []byte(strings.Join(r.Say(&words.English), "\n")+"\n"))
	}
	e.progress(e.total, e.total)
}

// meet asks the service for its state.
func (e *export) meet() (*link.Client, *ipc.State, error) {
	ctx, cancel := context.WithTimeout(e.ctx, meetTime)
	defer cancel()
	c, err := link.Dial(ctx, e.Socket)
	if err != nil {
		return nil, nil, err
	}
	s, err := c.Next(ctx)
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, s, nil
}

// learnMachine makes the names of this machine and its user known.
func (e *export) learnMachine() {
	e.learn(aDevice, machine.Hostname())
	if u, err := user.Current(); err == nil {
		e.learn(aUser, u.Username)
		e.learn(aUser, filepath.Base(u.HomeDir))
		e.person(u.Name)
	}
	for _, path := range e.system.dnsFiles {
		text, err := readSmall(path)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			words := strings.Fields(strings.SplitN(line, "#", 2)[0])
			if len(words) < 2 || words[0] == "nameserver" || words[0] == "options" || strings.HasSuffix(words[0], ":") {
				continue
			}
			for _, w := range words[1:] { // names in the hosts file, search domains
				if !strings.Contains(w, ".") && !strings.HasPrefix(w, "ip6-") {
					e.learn(aLabel, w)
				}
			}
		}
	}
}

// learnState makes the names that the service knows known here.
func (e *export) learnState(s *ipc.State) {
	e.person(s.Session.Actor)
	e.person(s.Session.Holder)
	e.learn(anAccount, s.Session.Account)
	e.learn(anAccount, s.Settings.AccountSlug)
	e.learn(aLabel, s.DNS.SearchDomain)
	for _, r := range s.Resources {
		e.learn(aResource, r.Name)
		e.learn(aText, r.Description)
		e.learn(aLabel, strings.Trim(r.Address, "*?."))
		for _, site := range r.Sites {
			e.learn(aSite, site)
		}
	}
	for _, c := range s.Connections {
		e.learn(aSite, c.Site)
	}
	for _, c := range s.Counters {
		e.kept[c.Name] = true
	}
}

// telling are the fields of logs that have names which may be in sentences of
// other files, too.
var telling = []string{`"actor":"`, `"account":"`, `"user":"`, `"deviceName":"`, `"resource":"`, `"site":"`}

// learnFile learns the names in fields of a log file: without the service, or when
// nobody is signed in, nothing else tells what they are.
func (e *export) learnFile(path string) {
	if e.Full {
		return
	}
	f, _, err := owner.Open(path)
	if err != nil {
		return // path tells
	}
	defer f.Close()
	_ = each(io.LimitReader(f, maxFile), func(b []byte) {
		for _, name := range telling {
			for rest := b; e.version < maxLearned; {
				_, after, found := bytes.Cut(rest, []byte(name))
				if !found {
					break
				}
				if end := stringEnd(after, 0, jsons); end < len(after) && worth(after[:end]) {
					e.learnField(fieldOf([]byte(strings.Trim(name, `":`))), after[:end])
				}
				rest = after
			}
		}
	})
}

func (e *export) learnField(f field, value []byte) {
	if said := unquoted(value); f.kind == aUser {
		e.person(said)
	} else {
		e.learn(f.kind, said)
	}
}

// person learns a name of a person, and its parts: logs may have one of them.
func (e *export) person(name string) {
	e.learn(aUser, name)
	for _, part := range strings.FieldsFunc(name, func(r rune) bool { return r == ' ' || r == ',' || r == '@' }) {
		e.learn(aUser, part)
	}
}

// A source is a log file that this user may read.
type source struct {
	name, path string
	size       int64
	at         time.Time
}

// logFiles lists log files of the user's programs and, if the service cannot
// hand over its own, of the service, the latest first.
func (e *export) logFiles(s *ipc.State) (list []source) {
	for _, dir := range e.AppLogs {
		list = append(list, e.folder("app/logs", dir, true)...)
	}
	if s == nil {
		list = append(list, e.folder("service/logs", dirs.Logs, false)...)
	}
	slices.SortStableFunc(list, func(a, b source) int { return b.at.Compare(a.at) })
	return list
}

// folder lists the logs of a folder, and flight records that the service kept.
func (e *export) folder(name, dir string, optional bool) (list []source) {
	var files []fs.FileInfo
	err := owner.As(dir, func() error {
		entries, err := os.ReadDir(dir)
		for _, f := range entries {
			if info, err := f.Info(); err == nil && info.Mode().IsRegular() && ipc.IsFileName(f.Name()) {
				files = append(files, info)
			}
		}
		return err
	})
	if err != nil && !(optional && errors.Is(err, os.ErrNotExist)) {
		e.miss(name, err)
	}
	for _, info := range files {
		in := name
		switch filepath.Ext(info.Name()) {
		case ".log":
		case ".jsonl":
			in = "service/flight"
		default:
			continue
		}
		list = append(list, source{in + "/" + info.Name(), filepath.Join(dir, info.Name()), info.Size(), info.ModTime()})
	}
	return list
}

// settings takes the user's own settings.
func (e *export) settings() {
	dir, err := dirs.UserConfig()
	if err != nil {
		return
	}
	var files []string
	_ = owner.As(dir, func() (err error) { // there may be none
		files, err = filepath.Glob(filepath.Join(dir, "*.json"))
		return err
	})
	for _, path := range files {
		if name := filepath.Base(path); ipc.IsFileName(name) {
			e.path("app/"+name, path, true)
		}
	}
}

// A manifest says what the archive is.
type manifest struct {
	Made         string `json:"made"`
	Program      string `json:"program"`
	Service      string `json:"service,omitempty"`
	ServiceError string `json:"service_error,omitempty"`
	Go           string `json:"go"`
	OS           string `json:"os"`
	Kernel       string `json:"kernel,omitempty"`
	Arch         string `json:"arch"`
	CPUs         int    `json:"cpus"`
	Resources    int    `json:"resources"`
	Redacted     bool   `json:"names_replaced"`
}

func (e *export) manifest(s *ipc.State, down error) manifest {
	o := machine.Describe()
	m := manifest{
		Made: e.Now().UTC().Format(time.RFC3339), Program: stamp.String(), Go: runtime.Version(), CPUs: runtime.NumCPU(), Redacted: !e.Full,
		OS: o.Name + " " + o.Version, Kernel: o.Kernel, Arch: o.Arch,
	}
	if s != nil {
		m.Service, m.Resources = s.Version, len(s.Resources)
	}
	if down != nil {
		m.ServiceError = explain(&words.English, down)
	}
	return m
}

// service takes the service's part, as it comes.
func (e *export) service(c *link.Client) {
	first, got := true, map[string]bool{}
	ctx, cancel := context.WithCancelCause(e.ctx)
	defer cancel(nil)
	idle := time.AfterFunc(e.system.patience, func() { cancel(errIdle) })
	defer idle.Stop()
	err := c.Ask(ctx, ipc.Collect{}, func(p ipc.Part) error {
		idle.Reset(e.system.patience)
		f := p.File
		if f == nil || !ipc.IsFileName(f.Name) || !strings.HasPrefix(f.Name, "service/") {
			return nil
		}
		if first {
			e.total += f.Left + int64(len(f.Data))
			first = false
		}
		if f.Name != e.began {
			e.endFile()
			e.begin(f.Name, e.Now())
			e.began, e.beganBytes, got[f.Name] = f.Name, 0, true
		}
		before := e.beganBytes
		if e.beganBytes += int64(len(f.Data)); e.beganBytes > maxFile && before <= maxFile {
			e.missing = append(e.missing, lack{what: partOfFile, name: f.Name, why: errTooLong})
		} else if f.Missing != "" {
			e.missing = append(e.missing, lack{what: partOfFile, name: f.Name, why: errors.New(f.Missing)})
		} else if e.beganBytes <= maxFile {
			e.put(f.Data)
		}
		return e.ctx.Err()
	})
	e.endFile()
	if err == nil || e.ctx.Err() != nil {
		return
	}
	if context.Cause(ctx) == errIdle {
		err = errIdle
	}
	e.missing = append(e.missing, lack{what: partOfService, why: err})
	for _, f := range e.folder("service/logs", dirs.Logs, true) { // what this user may read
		if !got[f.name] {
			e.total += f.size
			e.path(f.name, f.path, true)
		}
	}
}

// formOf says how a file is to be read.
func formOf(name string) form {
	switch filepath.Ext(name) {
	case ".log", ".json", ".jsonl":
		return jsons
	}
	if strings.HasSuffix(name, "goroutines.txt") {
		return code
	}
	return text
}

// begin begins a file in the archive, whose name may have one in it, too.
func (e *export) begin(name string, at time.Time) {
	e.form = formOf(name)
	e.lines = e.form == jsons && filepath.Ext(name) != ".json"
	e.archive.begin(string(e.redact(nil, []byte(name), text)), at)
}

// put appends to the file begun last. Only whole lines are looked at, so that
// nothing is cut in two; what has none for too long is cut between words.
func (e *export) put(b []byte) {
	e.done += int64(len(b))
	e.progress(min(e.done, e.total), e.total)
	if e.archive.full != nil {
		return
	}
	if len(e.held) > 0 {
		e.held = append(e.held, b...)
		b = e.held
	}
	end := bytes.LastIndexByte(b, '\n') + 1
	if end == 0 && len(b) >= maxHeld {
		if end = len(b); bytes.IndexFunc(b, isGap) >= 0 {
			end = bytes.LastIndexFunc(b, isGap) + 1
		}
	}
	if len(b) < maxHeld && bytes.Contains(b[:end], beginPEM) {
		if begin := bytes.LastIndex(b[:end], beginPEM); !bytes.Contains(b[begin:end], endPEM) {
			end = begin // a key has several lines
		}
	}
	e.flush(b[:end])
	e.held = append(e.held[:0], b[end:]...)
}

// maxHeld is how long a line is looked at as a whole, in bytes.
const maxHeld = 4 << 20

func isGap(r rune) bool { return r < 0x80 && kinds[byte(r)] == between && r != '\\' }

func (e *export) flush(b []byte) {
	e.scratch = e.redact(e.scratch[:0], b, e.form)
	e.archive.put(e.scratch)
}

// endFile ends a file. A part of a line of JSON, which a power cut leaves, would
// stop whoever reads it.
func (e *export) endFile() {
	if !e.lines || json.Valid(e.held) {
		e.flush(e.held)
	}
	e.held = e.held[:0]
	e.archive.end()
}

// small puts a file that is in memory; an empty one is left out.
func (e *export) small(name string, text []byte) {
	if len(text) == 0 {
		return
	}
	e.total += int64(len(text))
	e.begin(name, e.Now())
	e.put(text)
	e.endFile()
}

func (e *export) json(name string, v any) {
	if s, is := v.(*ipc.State); is && s == nil {
		return
	}
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		e.miss(name, err)
		return
	}
	e.small(name, append(text, '\n'))
}

// path puts a file of the disk, as far as it was long when it was opened.
// Links that lead nowhere, and files that optionally exist, are no trouble.
func (e *export) path(name, path string, optional bool) {
	if e.ctx.Err() != nil {
		return
	}
	f, info, err := owner.Open(path)
	if optional && errors.Is(err, os.ErrNotExist) || errors.Is(err, owner.ErrNoFile) {
		return
	}
	if err != nil {
		e.miss(name, err)
		return
	}
	defer f.Close()
	if info.Size() > maxFile {
		e.miss(name, errTooLong)
		return
	}
	e.begin(name, info.ModTime())
	if err := each(io.LimitReader(f, info.Size()), e.put); err != nil {
		e.miss(name, err)
	}
	e.endFile()
}

// each hands what r has to put, piece by piece.
func each(r io.Reader, put func([]byte)) error {
	buf := make([]byte, chunk)
	for {
		n, err := io.ReadFull(r, buf)
		put(buf[:n])
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// readSmall reads a file of the system's settings.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, settingSize))
}

func (e *export) miss(name string, err error) {
	e.missing = append(e.missing, lack{name: name, why: err})
}
