//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"stile/app/words"
	"stile/build/lab/nat"
	"stile/platform/tray/traytest"
)

const (
	deskUser = 1000 // as the programs of the desktop see themselves
	deskHome = "/var/lib/home/ada"
	deskRun  = "/run/user/1000"
	deskBus  = "unix:path=" + deskRun + "/bus"

	// menuAfter is how soon the menu is right again once the service is back.
	menuAfter = 2 * time.Second
)

// runDesktop: a user of a desktop does everything by the menu of the icon, and
// the menu tells of what happens to service and portal.
func runDesktop(s *stage) error {
	if err := s.order.ours(); err != nil {
		return err
	}
	v := &visit{stage: s}
	if err := v.world(nat.PortRestricted, wikiByName); err != nil {
		return err
	}
	d := &desk{visit: v, w: &words.English}
	defer d.leave()
	var before hostState
	wiki := func() error { _, err := v.first("http://" + wikiName + "/"); return err }
	return s.all(
		step{"the programs are built", s.built},
		step{"the portal answers", func() error { return v.stile.installPortal(s) }},
		step{"the relay is registered", func() error { return v.stile.startRelay(s) }},
		step{"the gateway is online", func() error { return v.stile.startGateway(s) }},
		step{"the laptop's state is noted", func() (err error) { before, err = stateOf(v.net.laptop); return err }},
		step{"stiled runs, and nobody is signed in", func() error { return v.stile.startIdle(s) }},
		step{"a desktop comes up, with a panel", d.open},
		step{"the app shows its icon, and a menu to sign in with", d.startApp},
		step{"the app has no rights over the system", d.appIsPlain},
		step{"the user signs in by the menu", func() error { return d.signIn("sign_in_ms", "callback_to_menu_ms") }},
		step{"and is told", func() error { return d.look(func() { d.notes.Await(d.w.ConnectedTitle) }) }},
		step{"the wiki answers", wiki},
		step{"a click copies its address", d.copies},
		step{"a click makes it a favourite", d.favourite},
		step{"the service is killed and started: the menu is busy, then right", d.serviceComesBack},
		step{"the menu is alive", d.copies},
		step{"the wiki answers", wiki},
		step{"the portal stops: the menu says so", func() error {
			return d.after(v.stile.control.stop, "portal_away_ms", "the portal is away", func(m traytest.Menu) bool {
				return m.Has(d.w.PortalLost) && m.Has(d.w.RetryNow) && m.Has("Wiki")
			})
		}},
		step{"the wiki answers", wiki},
		step{"the portal is back: the menu says that, too", func() error {
			return d.after(func() error { return v.stile.startPortal(s) }, "portal_back_ms", "the portal is back", func(m traytest.Menu) bool {
				return d.isIn(m) && !m.Has(d.w.PortalLost)
			})
		}},
		step{"the others are back, too", func() error {
			_, err := v.within(time.Now(), readyWithin, func() error {
				return v.stile.shows(func(p portalStatus) bool { return p.hasClient() && p.hasGateway() && p.hasRelay() })(v.ctx)
			})
			return err
		}},
		step{"the user signs out by the menu", func() error {
			return d.after(func() error { return d.click(d.w.SignOut) }, "sign_out_ms", "signed out", d.isOut)
		}},
		step{"the laptop is as before", func() error {
			_, err := v.within(time.Now(), afterRestart, func() error { return v.asBefore(before) })
			return err
		}},
		step{"the wiki is out of reach", func() error {
			if r, err := get(v.ctx, v.net.laptop, "http://"+wikiName+"/", "", "--timeout", "1s"); err == nil {
				return fmt.Errorf("it still answers: %q", r.Body)
			}
			return nil
		}},
		step{"the user signs in again", func() error { return d.signIn("sign_in_again_ms", "callback_to_menu_again_ms") }},
		step{"the user quits", d.quit},
		step{"and stays connected", func() error { return errors.Join(v.session("connected", ""), wiki()) }},
		step{"started again, the app shows that, without a browser", func() error { return d.startsAgain("start_again_ms") }},
		step{"the app is killed: nothing else breaks", func() error {
			return errors.Join(d.app.kill(), v.session("connected", ""), wiki())
		}},
		step{"started again, it is as before", func() error { return d.startsAgain("start_after_kill_ms") }},
		step{"the logs of both can be read as the README says", d.logsAreRead},
		step{"the user quits once more", d.quit},
		step{"all programs end when they are told to", v.end},
		step{"the laptop is as before", func() error { return v.asBefore(before) }},
	)
}

// A desk is the desktop of the laptop's user: a session bus, a panel, somebody
// who shows messages, a browser and a clipboard. Its programs run in a user
// namespace of their own, so that they are what they are on a desktop: a user
// without rights over the network, whoever runs the lab. Only the service, which
// looks from outside, takes them for its own user.
type desk struct {
	*visit
	w      *words.Words
	panel  *traytest.Panel
	notes  *traytest.Notes
	opened *told // addresses that the browser was sent to
	copied *told // texts on the clipboard
	app    *role
	c      *exec.Cmd // of the app
	ends   []func()
}

// startAs starts a program as the desktop's user.
func (d *desk) startAs(name, path string, args ...string) (r *role, c *exec.Cmd, err error) {
	r, err = d.launch(d.net.laptop, name, func(ctx context.Context) *exec.Cmd {
		c = d.net.laptop.Command(ctx, path, args...)
		c.Env = append(c.Env, "USER=ada", "LOGNAME=ada", "HOME="+deskHome, "PATH="+deskHome+"/bin:/usr/bin:/bin",
			"XDG_RUNTIME_DIR="+deskRun, "DBUS_SESSION_BUS_ADDRESS="+deskBus, "WAYLAND_DISPLAY=none", "XDG_CURRENT_DESKTOP=lab")
		c.SysProcAttr.Cloneflags = unix.CLONE_NEWUSER
		c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: deskUser, HostID: 0, Size: 1}}
		c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: deskUser, HostID: 0, Size: 1}}
		return c
	})
	return r, c, err
}

// open makes the desktop.
func (d *desk) open() error {
	daemon, err := findProgram("dbus-daemon")
	if err != nil {
		return fmt.Errorf("dbus-daemon: %w (it carries the session bus of the desktop: install the package dbus-daemon)", err)
	}
	h, config := d.net.laptop, deskRun+"/session.conf"
	err = errors.Join(
		h.WriteFile(config, traytest.Configuration(deskRun), 0o600),
		h.WriteFile(deskHome+"/.config/stile/config/general_settings.json", []byte(`{"ran_before":true}`), 0o600),
		h.Do(func() error { return os.Chmod(deskRun, 0o700) }))
	if err != nil {
		return err
	}
	if d.opened, err = d.tool("xdg-open", `printf '%s\n' "$1"`); err != nil {
		return err
	}
	if d.copied, err = d.tool("wl-copy", `cat; echo`); err != nil {
		return err
	}
	bus, _, err := d.startAs("session bus", daemon, "--config-file="+config, "--nofork", "--nopidfile")
	if err != nil {
		return err
	}
	err = d.ready(bus, func(context.Context) error {
		return h.Do(func() error { _, err := os.Stat(deskRun + "/bus"); return err })
	})
	if err != nil {
		return err
	}
	return h.Do(func() error { // the socket is a file of the laptop's
		return d.look(func() {
			d.panel = traytest.PanelOf(d, deskBus, strconv.Itoa(deskUser))
			d.notes = traytest.NotesOf(d, deskBus, strconv.Itoa(deskUser))
			d.panel.Appear(true)
		})
	})
}

// startApp starts the app, as the desktop does at login.
func (d *desk) startApp() (err error) {
	began := time.Now()
	if d.app, d.c, err = d.startAs("app", user, "tray", "--at-login"); err != nil {
		return err
	}
	took, err := d.shows(began, "the app is there", d.isOut)
	d.metric("menu_ms", ms(took))
	d.metric("icon_ms", ms(max(0, d.panel.Registered().Sub(began))))
	return err
}

// appIsPlain makes sure that the app can do no more than a user's programs.
func (d *desk) appIsPlain() error {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.app.pid))
	if err == nil && !strings.Contains(string(status), "\nCapEff:\t0000000000000000\n") {
		err = fmt.Errorf("it has capabilities:\n%s", status)
	}
	return err
}

// isOut tells whether the menu is that of a user who is not signed in.
func (d *desk) isOut(m traytest.Menu) bool {
	return m.Has(d.w.SignIn) && m.Has(d.w.Quit) && !m.Has("Wiki")
}

// isIn tells whether the menu is that of a user who is signed in, with all that
// this user may reach.
func (d *desk) isIn(m traytest.Menu) bool {
	return m.Has(d.w.SignedInAs(userMail)) && m.Has(d.w.SignOut) && m.Has(d.w.QuitConnected) && m.Has("Wiki", wikiName)
}

// signIn signs in by the menu, and measures from the click to a menu that says
// so, and from the portal's last page.
func (d *desk) signIn(metric, after string) error {
	began := time.Now()
	if err := d.click(d.w.SignIn); err != nil {
		return err
	}
	page, err := d.opened.next()
	if err != nil {
		return err
	}
	d.note("the browser opens after %s", since(began))
	browser := d.net.laptop.Self(d.ctx, "browse", page, userMail)
	browser.Stdin = strings.NewReader(userPassword + "\n")
	if _, err := d.net.laptop.Output(browser); err != nil {
		return fmt.Errorf("sign in at %s: %w%s", page, err, tail(d.net.laptop.Log, 4))
	}
	last := time.Since(began)
	took, err := d.shows(began, "signed in", d.isIn)
	d.metric(metric, ms(took))
	d.metric(after, ms(took-last))
	return err
}

// copies copies the wiki's address.
func (d *desk) copies() error {
	if err := d.click("Wiki", wikiName); err != nil {
		return err
	}
	text, err := d.copied.next()
	if err == nil && text != wikiName {
		err = fmt.Errorf("%q was copied, not %q", text, wikiName)
	}
	return err
}

func (d *desk) favourite() error {
	return d.after(func() error { return d.click("Wiki", d.w.AddFavorite) }, "favourite_ms", "a favourite", func(m traytest.Menu) bool {
		return m.Has(d.w.FavoriteResources) && m.Has("Wiki", d.w.RemoveFavorite)
	})
}

// serviceComesBack kills the service, starts it again, and measures how long
// the service and the menu take.
func (d *desk) serviceComesBack() error {
	err := d.after(d.stile.client.kill, "service_lost_ms", "busy", func(m traytest.Menu) bool { return m.Has(d.w.ServiceLost) && !m.Has("Wiki") })
	if err != nil {
		return err
	}
	began := time.Now()
	if err := d.stile.startIdle(d.stage); err != nil {
		return err
	}
	back, err := d.within(began, readyWithin, func() error { return d.session("connected", "") })
	if err != nil {
		return err
	}
	d.metric("service_back_ms", ms(back))
	took, err := d.shows(began, "signed in as before", d.isIn)
	d.metric("menu_back_ms", ms(took))
	if late := took - back; err == nil && late > menuAfter {
		err = fmt.Errorf("the menu is right %s after the service; the limit is %v", milliseconds(late), menuAfter)
	}
	return err
}

// quit ends the app by its menu.
func (d *desk) quit() error {
	began := time.Now()
	d.app.shot.Store(true) // it ends because of the click
	if err := d.click(d.w.QuitConnected); err != nil {
		return err
	}
	select {
	case <-d.app.done:
	case <-time.After(traytest.Patience):
		return fmt.Errorf("the app goes on for %v", traytest.Patience)
	}
	d.metric("quit_ms", ms(time.Since(began)))
	if !d.c.ProcessState.Success() {
		return fmt.Errorf("the app ended: %v%s", d.c.ProcessState, tail(d.net.laptop.Log, 4))
	}
	return nil
}

// startsAgain starts the app while its user is signed in: the menu is that of
// before, and no browser is asked.
func (d *desk) startsAgain(metric string) (err error) {
	began := time.Now()
	if d.app, d.c, err = d.startAs("app", user, "tray", "--at-login"); err != nil {
		return err
	}
	took, err := d.shows(began, "signed in as before", func(m traytest.Menu) bool {
		return d.panel.Registered().After(began) && d.isIn(m) && m.Has(d.w.FavoriteResources)
	})
	d.metric(metric, ms(took))
	if err == nil && d.opened.any() {
		err = errors.New("it opened a browser")
	}
	return err
}

// logsAreRead reads what service and app logged as users are told to, and wants
// each run to tell of itself first, and every line to be whole.
func (d *desk) logsAreRead() error {
	jq, err := findProgram("jq")
	if err != nil {
		return fmt.Errorf("jq: %w (the README reads logs with it: install the package jq)", err)
	}
	shell, err := findProgram("sh")
	if err != nil {
		return err
	}
	for _, dir := range []string{"/var/log/stile", deskHome + "/.cache/stile/logs"} {
		command := "cd " + dir + " && cat *.log | " + jq + ` -r '"\(.time) \(.severity) \(.message)"'`
		out, err := d.net.laptop.Output(d.net.laptop.Command(d.ctx, shell, "-c", command))
		if err != nil {
			return fmt.Errorf("%s: %w%s", command, err, tail(d.net.laptop.Log, 3))
		}
		first, _, _ := strings.Cut(string(out), "\n")
		runs := strings.Count(string(out), " INFO started log\n")
		if !strings.HasSuffix(first, " INFO started log") || runs < 2 || strings.Contains(string(out), "null") {
			return fmt.Errorf("%s: %d runs, and it begins with %q:\n%s", dir, runs, first, out)
		}
	}
	return nil
}

// after does something and measures how long it takes until the menu tells of it.
func (d *desk) after(do func() error, metric, what string, is func(traytest.Menu) bool) error {
	began := time.Now()
	if err := do(); err != nil {
		return err
	}
	took, err := d.shows(began, what, is)
	d.metric(metric, ms(took))
	return err
}

// shows waits for a menu, makes sure that it is also what the app says when it
// is asked for all of it, and returns how long after began it was there.
func (d *desk) shows(began time.Time, what string, is func(traytest.Menu) bool) (took time.Duration, err error) {
	err = d.look(func() {
		d.panel.Until(what, is)
		took = time.Since(began)
		d.panel.Check()
	})
	return took, err
}

func (d *desk) click(path ...string) error { return d.look(func() { d.panel.Click(path...) }) }

// gaveUp is what Fatal panics with, for look to find.
type gaveUp struct{ error }

// look does something with panel or notes. They end what they do by Fatal, as in
// a test: here that is an error.
func (d *desk) look(do func()) (err error) {
	defer func() {
		switch why := recover().(type) {
		case nil:
		case gaveUp:
			err = why.error
		default:
			panic(why)
		}
	}()
	do()
	return nil
}

// Fatal ends what runs in look, and so do the others: see traytest.T.
func (d *desk) Fatal(args ...any)                 { panic(gaveUp{errors.New(fmt.Sprint(args...))}) }
func (d *desk) Fatalf(format string, args ...any) { panic(gaveUp{fmt.Errorf(format, args...)}) }
func (d *desk) Helper()                           {}
func (d *desk) Cleanup(end func())                { d.ends = append(d.ends, end) }

// leave closes what the lab itself has on the desktop.
func (d *desk) leave() {
	for len(d.ends) > 0 {
		end := d.ends[len(d.ends)-1]
		d.ends = d.ends[:len(d.ends)-1]
		end()
	}
}

// told is what a program of the desktop was told, a line each.
type told struct {
	what string
	pipe *os.File
	in   *bufio.Reader
}

// tool installs a program of the desktop: script writes a line.
func (d *desk) tool(name, script string) (*told, error) {
	pipe := filepath.Join(deskRun, name)
	err := d.net.laptop.WriteFile(filepath.Join(deskHome, "bin", name), []byte("#!/bin/sh\n{ "+script+"; } > "+pipe+"\n"), 0o755)
	if err != nil {
		return nil, err
	}
	var f *os.File
	err = d.net.laptop.Do(func() (err error) {
		if err = unix.Mkfifo(pipe, 0o600); err == nil {
			f, err = os.OpenFile(pipe, os.O_RDWR, 0)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s of the desktop: %w", name, err)
	}
	d.Cleanup(func() { f.Close() })
	return &told{name, f, bufio.NewReader(f)}, nil
}

// next waits for the next line.
func (t *told) next() (string, error) {
	if err := t.pipe.SetReadDeadline(time.Now().Add(traytest.Patience)); err != nil {
		return "", err
	}
	line, err := t.in.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("nothing comes to %s: %w", t.what, err)
	}
	return strings.TrimSuffix(line, "\n"), nil
}

// any tells whether there was a line that nobody asked for.
func (t *told) any() bool {
	if err := t.pipe.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		return false
	}
	_, err := t.in.Peek(1)
	return err == nil
}

var _ traytest.T = (*desk)(nil)
