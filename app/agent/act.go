package agent

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"stile/app/menu"
	"stile/app/prefs"
	"stile/platform/desktop"
	"stile/tunnel/ipc"
)

// advice is an error in full sentences, of which the last says what to do.
type advice string

func (a advice) Error() string { return string(a) }

// Do does what a command means. The error is for the user, in sentences.
func (a *Agent) Do(ctx context.Context, c menu.Command) error {
	switch c := c.(type) {
	case menu.SignIn:
		return a.beginSignIn(ctx)
	case menu.CancelSignIn:
		a.cancelSignIn()
		return nil
	case menu.SignOut:
		a.cancelSignIn()
		return a.signOut(ctx)
	case menu.Connect:
		return a.ask(ctx, ipc.Connect{})
	case menu.Retry:
		return a.ask(ctx, ipc.Retry{})
	case menu.SetInternet:
		return a.ask(ctx, ipc.SetInternet{On: c.On})
	case menu.Favorite:
		return a.undone(a.remember(func(p *prefs.Prefs) { *p = p.WithFavorite(c.Resource, c.On) }))
	case menu.Copy:
		return a.copy(ctx, c.Text)
	case menu.Open:
		return a.open(ctx, c.URL)
	case menu.Show:
		return a.show(ctx, c.Page)
	case menu.Restart:
		a.end(ErrRestart)
		return nil
	case menu.Quit:
		a.end(errQuit)
		return nil
	}
	return a.undone(fmt.Errorf("%T", c))
}

// name is what a command is called in the log, without what it holds.
func name(c menu.Command) string {
	return strings.TrimPrefix(reflect.TypeOf(c).String(), "menu.")
}

// end says goodbye, and ends the program. The session is the service's, and goes
// on.
func (a *Agent) end(why error) {
	a.change(func() { a.view.Quitting = true })
	a.quit(why)
}

// open shows an address in the browser.
func (a *Agent) open(ctx context.Context, address string) error {
	err := a.Open(ctx, address)
	if errors.Is(err, desktop.ErrNoDesktop) {
		return advice(a.View().Words.NoBrowserOpen(address))
	}
	return a.noBrowser(err)
}

// show opens a page of ours. Its address is a secret: it is not told where
// anybody else could read it.
func (a *Agent) show(ctx context.Context, p menu.Page) error {
	err := a.Open(ctx, a.pages.URL(p))
	if errors.Is(err, desktop.ErrNoDesktop) {
		return advice(a.View().Words.NoBrowserPage)
	}
	return a.noBrowser(err)
}

// noBrowser says what to do when the desktop could not open an address.
func (a *Agent) noBrowser(err error) error {
	if err == nil {
		return nil
	}
	return advice(a.View().Words.DesktopFailed(err.Error()))
}

// copy puts a text into the clipboard.
func (a *Agent) copy(ctx context.Context, text string) error {
	err := a.Copy(ctx, text)
	if errors.Is(err, desktop.ErrNoClipboard) {
		return advice(a.View().Words.NotCopied)
	}
	return a.undone(err)
}

// undone says that the program could not do something, and nil of nil.
func (a *Agent) undone(err error) error {
	if _, told := errors.AsType[advice](err); told || err == nil {
		return err
	}
	return advice(a.View().Words.NotDone(err.Error()))
}
