package desktop

import (
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"stile/build/need"
	"stile/platform/tray/traytest"
	"stile/tunnel/ipc"
)

// With GNOME's own store of secrets: an open one keeps the token, one that is
// locked asks nobody, and the sign-in works by the service's.
func TestWhoKeepsTheToken(t *testing.T) {
	need.Tools(t, "gnome-keyring and libsecret-tools", "gnome-keyring-daemon", "secret-tool")
	for _, locked := range []bool{false, true} {
		d := open(t)
		d.prefer(`{"ran_before":true,"start_on_login":true}`)
		keyring := exec.Command("gnome-keyring-daemon", "--foreground", "--components=secrets")
		if !locked {
			keyring.Args = append(keyring.Args, "--unlock")
			keyring.Stdin = strings.NewReader("password")
		}
		keyring.Env = d.env
		d.background(keyring)
		d.panel.Named("org.freedesktop.secrets")
		d.service.up()
		d.run()
		q := d.signIn()
		r, err := http.Get(q.Get("redirect_uri") + "?" + url.Values{"account_slug": {"acme"}, "actor_name": {"Ada"}, "fragment": {"half"}, "state": {q.Get("state")}}.Encode())
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		begun := time.Now()
		keeps := func() bool { // whether the service is told to forget the token with the next reboot
			c, is := await(t, "the token", d.service.commands).(ipc.SignIn)
			if !is || c.Token.Reveal() != q.Get("nonce")+"half" {
				t.Fatalf("%+v", c)
			}
			return c.KeptSince == 0
		}
		if keeps() {
			t.Error("the user's own store was not asked")
		}
		if locked && !keeps() {
			t.Error("nobody keeps the token")
		}
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
		d.service.set(connected(0))
		d.panel.Until("connected", func(m traytest.Menu) bool { return m.Has("Sign Out") })
		if locked {
			continue
		}
		stored := func(is bool) {
			t.Helper()
			var out []byte
			for limit := time.Now().Add(traytest.Patience); time.Now().Before(limit); time.Sleep(50 * time.Millisecond) {
				c := exec.Command("secret-tool", "search", "--all", "application", "stile")
				c.Env = d.env
				out, _ = c.CombinedOutput() // an error: nothing is found
				if strings.Contains(string(out), q.Get("nonce")+"half") == is {
					return
				}
			}
			t.Errorf("the token in the store: not %v: %s", is, out)
		}
		stored(true)
		d.panel.Click("Sign Out")
		stored(false)
	}
}
