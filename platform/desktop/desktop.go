// Package desktop is what a desktop does for its user's programs.
package desktop

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"time"
)

// ErrNoDesktop means that there is no desktop, or nothing on it that opens
// addresses: show the address to the user instead.
var ErrNoDesktop = errors.New("no desktop with a browser")

// settle is how long the program that starts a browser has to fail. Some end at
// once, others live as long as the browser.
const settle = 3 * time.Second

// Open shows address, of http or https, in the user's browser. It returns when
// that seems to have worked; the browser may take longer to appear.
func Open(ctx context.Context, address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errors.New("open a browser: not an address of the web")
	}
	command, err := opener(u.String())
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return fmt.Errorf("open a browser: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }() // the browser may outlive us; until then, it is ours to reap
	select {
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("open a browser: %s: %w", command.Args[0], err)
		}
	case <-time.After(settle):
	case <-ctx.Done():
	}
	return nil
}

// firstOf returns a command for the first of programs that is installed. Each
// is a name and arguments that go before address.
func firstOf(address string, programs ...[]string) (*exec.Cmd, error) {
	for _, p := range programs {
		if path, err := exec.LookPath(p[0]); err == nil {
			return exec.Command(path, append(p[1:len(p):len(p)], address)...), nil
		}
	}
	return nil, ErrNoDesktop
}
