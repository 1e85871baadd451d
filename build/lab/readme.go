//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"stile/build/lab/host"
	"stile/build/lab/nat"
)

// Names that the README uses.
const (
	readmePortal = "stile.example.com"
	readmeUser   = "alice@corp.example"
)

// prelude makes a shell of a host, where everything runs as root, understand
// what is written for people with sudo. Who edits a file leaves it as it is.
const prelude = `sudo() { "$@"; }
sudoedit() { test -w "$1"; }
set -e
`

// tokenLine is what people copy out of what is printed around a token.
var tokenLine = regexp.MustCompile(`(?m)^\S{40,}$`)

// background is the end of a line that starts what goes on.
var background = regexp.MustCompile(`&( +#.*)?\n`)

// browser is what the laptop's desktop opens pages with.
const browser = "#!/bin/sh\nexec " + host.BinDir + "/lab browse \"$1\" " + readmeUser + " < /etc/lab/password\n"

// runReadme does in three fresh hosts what the README tells people who host
// themselves: its commands, read from it, and what the text between them says.
func runReadme(s *stage) error {
	blocks, err := selfHosting(filepath.Join(s.order.Bin, "../../../README.md"))
	if err != nil {
		return err
	}
	var token string
	var n *internet
	public := func() *host.Host { return n.portal }
	return s.all(
		step{"an internet of its own comes up", func() (err error) { n, err = newInternet(s, nat.PortRestricted, nat.PortRestricted); return err }},
		step{"its name leads to the public host", func() error { n.public.Set(readmePortal, fixed(portalPlace)); return nil }},
		step{"1. portal and relay", func() error {
			_, err := s.follow(public(), "portal", blocks[0], userPassword+"\n"+userPassword+"\n")
			return err
		}},
		step{"2. the gateway's token", func() error {
			said, err := s.follow(public(), "token", blocks[1], "")
			if token = tokenLine.FindString(said); err == nil && token == "" {
				err = fmt.Errorf("no token in:\n%s", said)
			}
			return err
		}},
		step{"2. gateway", func() error {
			if err := hand(public(), "/etc/stile/ca.pem", n.gateway, "/etc/stile/ca.pem"); err != nil {
				return err
			}
			said, err := s.follow(n.gateway, "gateway", blocks[2], token)
			if err == nil && !strings.Contains(said, "connected to the portal") {
				err = fmt.Errorf("it is not connected to the portal:\n%s", said)
			}
			return err
		}},
		step{"3. laptop", func() error {
			if err := errors.Join(
				hand(public(), "/etc/stile/ca.pem", n.laptop, "/var/lib/home/ca.pem"),
				n.laptop.WriteFile("/etc/lab/password", []byte(userPassword+"\n"), 0o600),
				n.laptop.WriteFile("/etc/lab/xdg-open", []byte(browser), 0o755),
				n.laptop.Do(func() error { // the one place outside of /etc that is written to
					return unix.Mount("tmpfs", "/usr/local/share/ca-certificates", "tmpfs", 0, "")
				}),
			); err != nil {
				return err
			}
			said, err := s.follow(n.laptop, "laptop", blocks[3], "")
			if err != nil {
				return err
			}
			for _, want := range []string{"This is wiki", "Connected as " + readmeUser, "gateway connected"} {
				if !strings.Contains(said, want) {
					err = errors.Join(err, fmt.Errorf("nothing of %q in what it prints", want))
				}
			}
			if err != nil {
				return fmt.Errorf("%w:\n%s", err, said)
			}
			return nil
		}},
		step{"the portal shows them all", func() error {
			said, err := s.follow(public(), "status", "sudo stile-server portal status", "")
			for _, want := range []string{readmeUser, "Office"} {
				if err == nil && !strings.Contains(said, want) {
					err = fmt.Errorf("nothing of %q in\n%s", want, said)
				}
			}
			return err
		}},
	)
}

// selfHosting returns the commands of the README's section: portal and relay,
// a token for the gateway, gateway, laptop.
func selfHosting(file string) ([]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	_, section, _ := strings.Cut(string(text), "\n## Run it yourself")
	section, _, _ = strings.Cut(section, "\n## ")
	var blocks []string
	for _, b := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(section, -1) {
		blocks = append(blocks, b[1])
	}
	if len(blocks) != 4 {
		return nil, fmt.Errorf("%s: the section \"Run it yourself\" has %d blocks of commands, not 4: tell the lab where each is to be run", file, len(blocks))
	}
	return blocks, nil
}

// follow types a block of commands into a shell on a host, and waits until the
// last that is not to run in the background has ended. It returns what they
// printed. The background ones are stopped with the stage.
func (s *stage) follow(h *host.Host, name, block, typed string) (string, error) {
	shell, err := findProgram("sh")
	if err != nil {
		return "", err
	}
	out := "/run/readme-" + name
	// Between two lines people take a moment.
	script := prelude + background.ReplaceAllString(block+"\n", "& sleep 1\n") + "\ntouch " + out + ".done\nwait\n"
	r, err := s.launchAs(h, name, true, func(ctx context.Context) *exec.Cmd {
		c := h.Command(ctx, shell, "-c", "exec > "+out+" 2>&1\n"+script)
		c.Dir = "/var/lib/home"
		c.Env = append(c.Env, "DISPLAY=:0", "PATH=/etc/lab:"+host.BinDir+":/usr/sbin:/usr/bin:/sbin:/bin")
		c.Stdin = strings.NewReader(typed)
		c.Cancel = func() error { return unix.Kill(-c.Process.Pid, unix.SIGTERM) }
		return c
	})
	if err != nil {
		return "", err
	}
	said := func() string { text, _ := h.ReadFile(out); return string(text) }
	_, err = s.within(time.Now(), readyWithin, func() error {
		_, err := h.ReadFile(out + ".done")
		return err
	})
	if err == nil && !background.MatchString(block) {
		r.told()
		<-r.done
	}
	if err != nil {
		return "", fmt.Errorf("%w: it has printed:\n%s", err, said())
	}
	return said(), nil
}

// hand copies a file from one host to another, as people do with scp.
func hand(from *host.Host, path string, to *host.Host, dest string) error {
	text, err := from.ReadFile(path)
	if err != nil {
		return err
	}
	return to.WriteFile(dest, text, 0o644)
}
