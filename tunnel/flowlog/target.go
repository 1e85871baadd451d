package flowlog

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const defaultBytes = 1 << 30

// parse finds the target that a text names.
func parse(text string, maxBytes int64) (target, error) {
	kind, where, _ := strings.Cut(text, ":")
	switch {
	case text == "":
		return nil, errors.New(`say where it goes: a file, "stdout" or "syslog"`)
	case text == "stdout", text == "-":
		return &stream{w: os.Stdout}, nil
	case kind == "syslog":
		return openSyslog(where)
	case !filepath.IsAbs(text):
		return nil, fmt.Errorf(`%q is neither the absolute path of a file nor "stdout", "syslog", "syslog:udp://HOST:PORT" or "syslog:tcp://HOST:PORT"`, text)
	}
	if maxBytes <= 0 {
		maxBytes = defaultBytes
	}
	return openFile(text, maxBytes/files)
}

// A stream is a target without an end of its own.
type stream struct {
	w      io.Writer
	broken bool // the last write ended within a line
}

func (s *stream) write(text []byte, ends []int) (lost int, err error) {
	if s.broken {
		if _, err := io.WriteString(s.w, "\n"); err != nil {
			return len(ends), err
		}
		s.broken = false
	}
	n, err := s.w.Write(text)
	if err == nil {
		return 0, nil
	}
	whole := 0
	for whole < len(ends) && ends[whole] <= n {
		whole++
	}
	s.broken = n > 0 && (whole == 0 || ends[whole-1] != n)
	return len(ends) - whole, err
}

func (s *stream) reopen() error { return nil }
func (s *stream) close() error  { return nil }

// A syslog is a log daemon: this machine's, in the form that C libraries use
// there (openlog(3)), or one in the network, in that of RFC 5424, with its
// length in front if it is TCP (RFC 6587 §3.4.1).
type syslog struct {
	network, address string
	conn             net.Conn
	again            time.Time // when to try again to connect
	message          []byte    // scratch
	host             string
}

const (
	devLog     = "/dev/log"
	priority   = "<134>" // facility local0, severity informational
	appName    = "stile-gateway"
	retryAfter = time.Second
	writeTime  = 5 * time.Second // for one message
)

// openSyslog connects to the daemon that text names, "" for this machine's. It
// must be there at first; later it may go and come.
func openSyslog(text string) (target, error) {
	s := &syslog{network: "unixgram", address: devLog}
	if text != "" {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "udp" && u.Scheme != "tcp" || u.Hostname() == "" || u.Port() == "" || u.Path != "" {
			return nil, fmt.Errorf("%q names no syslog: use syslog:udp://HOST:PORT or syslog:tcp://HOST:PORT", "syslog:"+text)
		}
		s.network, s.address = u.Scheme, u.Host
	}
	s.host, _ = os.Hostname() // "": the daemon knows better
	if err := s.connect(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *syslog) connect() (err error) {
	s.again = time.Now().Add(retryAfter)
	if s.conn, err = net.DialTimeout(s.network, s.address, writeTime); err != nil {
		s.conn = nil
		return fmt.Errorf("reach syslog: %w", err)
	}
	return nil
}

func (s *syslog) write(text []byte, ends []int) (lost int, err error) {
	begin := 0
	for i, end := range ends {
		line := text[begin : end-1]
		begin = end
		if err := s.send(line); err != nil {
			return len(ends) - i, err
		}
	}
	return 0, nil
}

// send writes one message, once more on a new connection if the daemon has been
// started again meanwhile.
func (s *syslog) send(line []byte) error {
	for try := 0; ; try++ {
		if s.conn == nil {
			if try == 0 && time.Now().Before(s.again) {
				return errors.New("reach syslog: it is not there")
			}
			if err := s.connect(); err != nil {
				return err
			}
		}
		s.conn.SetWriteDeadline(time.Now().Add(writeTime))
		_, err := s.conn.Write(s.frame(line))
		if err == nil {
			return nil
		}
		s.conn.Close()
		s.conn = nil
		if try > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("write to syslog: %w", err)
		}
	}
}

// frame puts the daemon's header in front of a line.
func (s *syslog) frame(line []byte) []byte {
	now, pid := time.Now(), os.Getpid()
	m := append(s.message[:0], priority...)
	if s.network == "unixgram" {
		m = now.AppendFormat(m, time.Stamp)
		m = fmt.Appendf(m, " %s[%d]: ", appName, pid)
		s.message = append(m, line...)
		return s.message
	}
	m = now.UTC().AppendFormat(append(m, "1 "...), timeFormat)
	m = fmt.Appendf(m, " %s %s %d flow - ", orNone(s.host), appName, pid)
	m = append(m, line...)
	s.message = m
	if s.network == "tcp" {
		return append(fmt.Appendf(nil, "%d ", len(m)), m...)
	}
	return m
}

// orNone is RFC 5424's way to say nothing.
func orNone(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (s *syslog) reopen() error {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
	return s.connect()
}

func (s *syslog) close() error {
	if s.conn == nil {
		return nil
	}
	return s.conn.Close()
}
