//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"stile/build/lab/host"
	"stile/build/lab/nat"
)

// user is the program that users type commands into, as a host sees it.
const user = host.BinDir + "/stile"

// statusAnswer is how long "stile status" may take.
const statusAnswer = 50 * time.Millisecond

// renewalSilence is how long a connection may be silent while its user signs in
// again.
const renewalSilence = time.Second

// runSignOutIn: a user signs in with a browser, out, and in again; then on a
// desktop, and again while connections are open.
func runSignOutIn(s *stage) error {
	if err := s.order.ours(); err != nil {
		return err
	}
	v := &visit{stage: s}
	if err := v.world(nat.PortRestricted, wikiByName); err != nil {
		return err
	}
	var before hostState
	var first []string
	var flows []*flow
	wiki := func() error { _, err := v.first("http://" + wikiName + "/"); return err }
	d := v.stile
	return s.all(
		step{"the programs are built", s.built},
		step{"the portal answers", func() error { return d.installPortal(s) }},
		step{"the relay is registered", func() error { return d.startRelay(s) }},
		step{"the gateway is online", func() error { return d.startGateway(s) }},
		step{"the laptop's state is noted", func() (err error) { before, err = stateOf(v.net.laptop); return err }},
		step{"stiled runs, and nobody is signed in", func() error { return d.startIdle(s) }},
		step{"it leaves the laptop as it is", func() error { return v.asBefore(before) }},
		step{"a user signs in with a browser", func() error { return v.signIn("sign_in_ms") }},
		step{"the wiki answers", wiki},
		step{"stile status tells of it at once", v.status},
		step{"its log can be read, and its level changed", v.logs},
		step{"the addresses that stand for the wiki are noted", func() (err error) { first, err = v.standIns(); return err }},
		step{"the user signs out", func() error {
			began := time.Now()
			out, err := v.command("sign-out")
			v.metric("sign_out_ms", ms(time.Since(began)))
			v.note("%s", out)
			return err
		}},
		step{"the laptop is as before", func() error { return v.asBefore(before) }},
		step{"the wiki is out of reach", func() error {
			if r, err := get(v.ctx, v.net.laptop, "http://"+wikiName+"/", "", "--timeout", "1s"); err == nil {
				return fmt.Errorf("it still answers: %q", r.Body)
			}
			return nil
		}},
		step{"the user signs in again", func() error { return v.signIn("sign_in_again_ms") }},
		step{"the same addresses stand for the wiki", func() error {
			second, err := v.standIns()
			if err == nil && !slices.Equal(first, second) {
				err = fmt.Errorf("first %v, then %v", first, second)
			}
			return err
		}},
		step{"the wiki answers", wiki},
		step{"a user of a desktop signs in", func() error { return v.signInOnDesktop("desktop_sign_in_ms") }},
		step{"the wiki answers", wiki},
		step{"connections are open", func() (err error) { flows, err = v.flows("tcp", "udp"); return err }},
		step{"the same user signs in once more", func() error { mark(flows); return v.signInOnDesktop("renewal_ms") }},
		step{"the connections did not notice", func() error { return v.quiet("renewal_silence_ms", flows, renewalSilence) }},
		step{"the wiki answers", wiki},
		step{"all programs end when they are told to", v.end},
		step{"the laptop is as before", func() error { return v.asBefore(before) }},
	)
}

// startIdle starts our service without a token and waits until it takes commands.
func (d *deployment) startIdle(s *stage) (err error) {
	if d.client, err = s.start(d.laptop, "stiled", []string{"STILE_API_URL=" + portalURL, "STILE_TOKEN_PATH=" + clientToken}, daemon); err != nil {
		return err
	}
	v := &visit{stage: s, net: &internet{laptop: d.laptop}}
	_, err = s.within(time.Now(), afterRestart, func() error {
		_, err := v.command("status", "--json")
		return err
	})
	return err
}

// signedIn has a user sign in, unless our service has a token.
func (d *deployment) signedIn(s *stage) error {
	v := &visit{stage: s, net: &internet{laptop: d.laptop}, stile: d}
	text, err := v.command("status", "--json")
	if err != nil {
		return err
	}
	var status struct{ Session struct{ Token string } }
	if err := json.Unmarshal([]byte(text), &status); err != nil {
		return fmt.Errorf("stile status --json: %w: %.300s", err, text)
	}
	if status.Session.Token != "" {
		return nil
	}
	return v.signIn("sign_in_ms")
}

// command runs a command of the user on the laptop and returns what it prints.
func (v *visit) command(args ...string) (string, error) {
	out, err := v.net.laptop.Output(v.net.laptop.Command(v.ctx, user, args...))
	if err != nil {
		return "", fmt.Errorf("stile %s: %w: %s%s", strings.Join(args, " "), err, out, tail(v.net.laptop.Log, 3))
	}
	return strings.TrimSpace(string(out)), nil
}

// status measures "stile status --json", the median of a few.
func (v *visit) status() error {
	var took []time.Duration
	for range inTurn {
		began := time.Now()
		out, err := v.command("status", "--json")
		if err != nil {
			return err
		}
		if took = append(took, time.Since(began)); !strings.Contains(out, "Wiki") {
			return fmt.Errorf("the status does not name the resource: %s", out)
		}
	}
	v.metric("status_ms", ms(median(took)))
	if median(took) > statusAnswer {
		return fmt.Errorf("it takes %s; the limit is %v", milliseconds(median(took)), statusAnswer)
	}
	return nil
}

// logs reads the service's log as a supporter would.
func (v *visit) logs() error {
	if _, err := v.command("logs", "level", "info,tunnel/daemon=debug", "--for", "1m"); err != nil {
		return err
	}
	text, err := v.command("logs", "tail", "--json", "-n", "1000")
	if err != nil {
		return err
	}
	for n, line := range strings.Split(text, "\n") {
		var l struct{ Time, Severity, Message string }
		if err := json.Unmarshal([]byte(line), &l); err != nil || l.Time == "" || l.Severity == "" {
			return fmt.Errorf("line %d of the log is %q: %v", n+1, line, err)
		}
		if n == 0 && l.Message != "started log" {
			return fmt.Errorf("the log begins with %q", line)
		}
	}
	if !strings.Contains(text, "connected to the portal") || !strings.Contains(text, "the log filter was changed") {
		return fmt.Errorf("something is missing in the log:\n%s", text)
	}
	return nil
}

// standIns lists the addresses that stand for the wiki.
func (v *visit) standIns() ([]string, error) {
	var texts []string
	for _, kind := range []string{"A", "AAAA"} {
		addrs, err := v.proxies(wikiName, kind)
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			texts = append(texts, a.String())
		}
	}
	slices.Sort(texts)
	return texts, nil
}

// signIn plays a user who signs in without a desktop: the program prints an
// address, a browser shows a token there, the user types it in.
func (v *visit) signIn(metric string) error {
	began := time.Now()
	h := v.net.laptop
	c := h.Command(v.ctx, user, "sign-in", "--no-browser")
	typed, typing, err := os.Pipe()
	if err != nil {
		return err
	}
	defer typing.Close()
	printed, printing, err := os.Pipe()
	if err != nil {
		typed.Close()
		return err
	}
	defer printed.Close()
	c.Stdin, c.Stdout = typed, printing
	err = h.Start(c)
	typed.Close()
	printing.Close()
	if err != nil {
		return err
	}
	page := ""
	lines := bufio.NewScanner(printed)
	for page == "" && lines.Scan() {
		if text := strings.TrimSpace(lines.Text()); strings.HasPrefix(text, "https://") {
			page = text
		}
	}
	if page != "" {
		browser := h.Self(v.ctx, "browse", page, userMail)
		browser.Stdin = strings.NewReader(userPassword + "\n")
		var token []byte
		if token, err = h.Output(browser); err == nil {
			_, err = typing.Write(token)
		}
	} else {
		err = errors.New("stile sign-in prints no address")
	}
	typing.Close()
	for lines.Scan() {
		if text := strings.TrimSpace(lines.Text()); text != "" {
			v.note("stile says: %s", text)
		}
	}
	if err = errors.Join(err, c.Wait()); err != nil {
		return fmt.Errorf("sign in at %s: %w%s", page, err, tail(h.Log, 4))
	}
	v.metric(metric, ms(time.Since(began)))
	if err := v.stile.resolves(v.ctx); err != nil {
		return fmt.Errorf("sign-in said that the tunnel stands: %w", err)
	}
	return nil
}

// signInOnDesktop plays a user whose browser leads back to the program.
func (v *visit) signInOnDesktop(metric string) error {
	began := time.Now()
	h := v.net.laptop
	c := h.Command(v.ctx, user, "sign-in")
	c.Env = append(c.Env, "DISPLAY=:7", "BROWSER=true") // the address is printed, too
	printed, printing, err := os.Pipe()
	if err != nil {
		return err
	}
	defer printed.Close()
	c.Stdout = printing
	err = h.Start(c)
	printing.Close()
	if err != nil {
		return err
	}
	lines, page := bufio.NewScanner(printed), ""
	for page == "" && lines.Scan() {
		if text := strings.TrimSpace(lines.Text()); strings.HasPrefix(text, "https://") {
			page = text
		}
	}
	if page != "" {
		browser := h.Self(v.ctx, "browse", page, userMail)
		browser.Stdin = strings.NewReader(userPassword + "\n")
		_, err = h.Output(browser)
	} else {
		err = errors.New("stile sign-in prints no address")
	}
	if err != nil {
		c.Process.Signal(os.Interrupt)
	}
	for lines.Scan() {
		if text := strings.TrimSpace(lines.Text()); text != "" {
			v.note("stile says: %s", text)
		}
	}
	if err = errors.Join(err, c.Wait()); err != nil {
		return fmt.Errorf("sign in at %s: %w%s", page, err, tail(h.Log, 4))
	}
	v.metric(metric, ms(time.Since(began)))
	return nil
}

// browseCmd is "lab browse": a browser, as far as signing in needs one. It
// goes where the last page sends it, or prints the token that it shows.
type browseCmd struct {
	URL   string `arg:""`
	Email string `arg:""`
}

var (
	formAction = regexp.MustCompile(`<form method="post" action="([^"]*)"`)
	hidden     = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)"`)
	refresh    = regexp.MustCompile(`<meta http-equiv="refresh" content="2;url=([^"]*)">`)
	shown      = regexp.MustCompile(`(?s)<textarea id="token"[^>]*>([^<]+)</textarea>`)
)

func (b *browseCmd) Run() error {
	password, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return err
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	client := &http.Client{Jar: jar, Timeout: 15 * time.Second}
	at, page, err := show(client.Get(b.URL))
	if err != nil {
		return err
	}
	action := formAction.FindStringSubmatch(page)
	if action == nil {
		return fmt.Errorf("%s shows no form: %.300s", at, page)
	}
	form := url.Values{"email": {b.Email}, "password": {strings.TrimSpace(password)}}
	for _, field := range hidden.FindAllStringSubmatch(page, -1) {
		form.Set(html.UnescapeString(field[1]), html.UnescapeString(field[2]))
	}
	to, err := at.Parse(html.UnescapeString(action[1]))
	if err != nil {
		return err
	}
	at, page, err = show(client.PostForm(to.String(), form))
	if err != nil {
		return err
	}
	if next := refresh.FindStringSubmatch(page); next != nil {
		if to, err = at.Parse(html.UnescapeString(next[1])); err != nil {
			return err
		}
		_, _, err = show(client.Get(to.String()))
		return err
	}
	token := shown.FindStringSubmatch(page)
	if token == nil {
		return fmt.Errorf("%s shows no token", at)
	}
	fmt.Println(html.UnescapeString(strings.TrimSpace(token[1])))
	return nil
}

// show reads a page to its end and tells where it was found in the end.
func show(r *http.Response, err error) (*url.URL, string, error) {
	if err != nil {
		return nil, "", err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers with status %s: %.300s", r.Request.URL, r.Status, text)
	}
	return r.Request.URL, string(text), err
}
