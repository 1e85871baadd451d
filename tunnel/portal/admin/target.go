package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"stile/platform/ipcsock"
	"stile/platform/owner"
	"stile/tunnel/portal/config"
	"stile/tunnel/portal/store"
)

// maxConfig bounds what is read of a file; package config refuses less.
const maxConfig = 64 << 20

// File is the option that every command has.
type File struct {
	Config string `short:"c" env:"STILE_CONFIG" default:"/etc/stile/portal.yaml" placeholder:"FILE" help:"The portal's configuration."`
}

// read returns the file's text.
func (f *File) read() ([]byte, error) {
	file, err := os.Open(f.Config)
	var text []byte
	if err == nil {
		defer file.Close()
		text, err = io.ReadAll(io.LimitReader(file, maxConfig))
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no configuration %s; make one with `stile-server portal init`, or name another with --config", f.Config)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s may not be read by this user; run the command as root or as the portal's own user", f.Config)
	}
	return text, err
}

// do asks the running portal or, if it is stopped, works on its store. args
// and result are what Backend.call takes and gives.
func (f *File) do(ctx context.Context, do string, args, result any) error {
	text, err := f.read()
	if err != nil {
		return err
	}
	socket, dataDir := config.Locate(text)
	conn, err := ipcsock.Dial(socket)
	if err == nil {
		return ask(conn, do, args, result)
	}
	if !errors.Is(err, ipcsock.ErrNobody) {
		return fmt.Errorf("reach the portal at %w; run the command as root or as the portal's own user", err)
	}
	return f.doOffline(ctx, text, dataDir, do, args, result)
}

func (f *File) doOffline(ctx context.Context, text []byte, dataDir, do string, args, result any) error {
	s, err := openStore(dataDir)
	if err != nil {
		return err
	}
	defer s.Close()
	account, err := s.Account()
	if err != nil {
		return err
	}
	c, problem := config.Parse(text, config.Options{Account: account.ID, Zones: time.LoadLocation})
	b := &Backend{Store: s, Config: func() *config.Config { return c }}
	encoded, err := json.Marshal(args)
	if err != nil {
		return err
	}
	answer, err := b.call(ctx, do, func(into any) error { return json.Unmarshal(encoded, into) })
	if err != nil {
		return err
	}
	if s, is := answer.(Status); is && problem != nil {
		s.ConfigError = located(f.Config, problem)
		answer = s
	}
	if encoded, err = json.Marshal(answer); err != nil || result == nil {
		return err
	}
	return json.Unmarshal(encoded, result)
}

// openStore opens a store that exists, as the user it belongs to: what root
// left behind there, the portal could not open.
func openStore(dataDir string) (*store.Store, error) {
	if _, err := os.Stat(dataDir); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("the portal has no data in %s yet; make a first user with `stile-server portal init`, or start it once", dataDir)
		}
		return nil, fmt.Errorf("open the portal's data: %w; run the command as root or as the portal's own user", err)
	}
	if err := owner.Become(dataDir); err != nil {
		return nil, err
	}
	s, err := store.Open(dataDir)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%w; run the command as root or as the portal's own user", err)
	}
	return s, err
}

// located puts the file's name in front of each problem.
func located(file string, err error) string {
	problems, is := errors.AsType[config.Problems](err)
	if !is {
		return err.Error()
	}
	text := ""
	for i, p := range problems {
		if i > 0 {
			text += "\n"
		}
		text += file + ":"
		if p.Line == 0 {
			text += " "
		}
		text += p.String()
	}
	return text
}
