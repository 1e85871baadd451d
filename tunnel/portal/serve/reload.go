package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/portal/config"
)

const (
	// watchEvery is how often the files are looked at. A change counts when two
	// looks agree on it, so that a file that is being written is left alone.
	watchEvery = 250 * time.Millisecond
	maxConfig  = 64 << 20 // bytes; 100,000 resources have 15 MB
)

// readConfig reads and checks the file. Its error names the file, and each
// mistake on a line of its own.
func readConfig(path string, account id.Account) (*config.Config, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no configuration %s; \"stile-server portal init\" makes one", path)
	}
	if err == nil && info.Size() > maxConfig {
		err = fmt.Errorf("has %d bytes; the limit is %d", info.Size(), maxConfig)
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(path)
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("configuration %s: %w; it must be readable for the user the portal runs as", path, err)
	}
	var c *config.Config
	if err == nil {
		c, err = config.Parse(text, config.Options{Account: account, Zones: time.LoadLocation})
	}
	if err != nil {
		return nil, fmt.Errorf("configuration %s:\n%w", path, err)
	}
	return c, nil
}

// warn logs what is odd about c, and whom its groups name in vain.
func (s *server) warn(c *config.Config) {
	for _, p := range slices.Concat(c.Warnings, s.unknownEmails(c)) {
		s.log.Warn("configuration: " + p.String())
	}
}

func (s *server) unknownEmails(c *config.Config) config.Problems {
	users, err := s.store.Users()
	if err != nil {
		s.log.Error("the users could not be listed", "error", err)
		return nil
	}
	known := map[string]bool{}
	for _, u := range users {
		known[strings.ToLower(u.Email)] = true
	}
	return c.UnknownEmails(func(email string) bool { return known[strings.ToLower(email)] })
}

// A watch follows the configuration file and the certificates.
type watch struct {
	server *server
	path   string
	certs  map[string]*certificate
	loaded mark // of the file that was read last, good or bad
	seen   mark // at the last look
}

// run follows the files until ctx ends. asked tells to read at once.
func (w *watch) run(ctx context.Context, asked <-chan os.Signal) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-asked:
			w.loaded = markOf(w.path)
			w.server.reload(ctx, w.path)
			w.renew(func(*certificate) bool { return true })
		case <-tick.C:
			w.look(ctx)
		}
	}
}

func (w *watch) look(ctx context.Context) {
	last := w.seen
	w.seen = markOf(w.path)
	if w.seen.equal(last) && !w.seen.equal(w.loaded) {
		w.loaded = w.seen
		w.server.reload(ctx, w.path)
	}
	w.renew((*certificate).changed)
}

// renew reads certificates again; a bad one leaves the last good one in use.
func (w *watch) renew(which func(*certificate) bool) {
	for _, c := range w.certs {
		if !which(c) {
			continue
		}
		if err := c.load(); err != nil {
			w.server.log.Error("the old certificate stays in use", "error", err)
			continue
		}
		w.server.log.Info("certificate read", "file", c.certFile)
	}
}

// A trouble is what is wrong with the file that was read last; it lasts until a
// good one is read.
type trouble struct {
	mu  sync.Mutex // guards err
	err error
}

func (t *trouble) set(err error) {
	t.mu.Lock()
	t.err = err
	t.mu.Unlock()
}

func (t *trouble) get() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// reload reads the file and tells peers what it changes for them. A bad file
// changes nothing.
func (s *server) reload(ctx context.Context, path string) {
	old := s.config.Load()
	next, err := readConfig(path, old.Account.ID)
	if err == nil {
		err = s.apply(ctx, old, next)
	}
	if s.trouble.set(err); err != nil {
		s.log.Error("the last good configuration stays in force: " + err.Error())
	}
}

func (s *server) apply(ctx context.Context, old, next *config.Config) error {
	change := config.Diff(old, next)
	applied := *next
	// These were used at the start, and are told apart from what is in force.
	applied.ExternalURL, applied.Listeners, applied.Socket, applied.DataDir = old.ExternalURL, old.Listeners, old.Socket, old.DataDir
	applied.Account.APIURL = old.Account.APIURL
	var refused error
	if err := s.hub.ask(ctx, func(now time.Time) { refused = s.hub.role.Reconfigure(applied.Account, now) }); err != nil {
		return err
	}
	if refused != nil {
		return refused
	}
	s.config.Store(&applied)
	s.log.Info("configuration read", "changes", len(change.Summary), slog.Any("summary", change.Summary))
	if len(change.Restart) > 0 {
		s.log.Warn("these settings count only after a restart: " + strings.Join(change.Restart, ", "))
	}
	s.warn(&applied)
	return nil
}
