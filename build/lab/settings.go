//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"stile/build/lab/nat"
)

const (
	policyFile = "/etc/stile/policy.json"
	// startsWithin is how long a service that starts may take until its user is
	// connected and names are looked up by it, beside a portal that is near.
	startsWithin = 1500 * time.Millisecond
	// policyWithin is how soon a changed policy counts.
	policyWithin = 7 * time.Second
	away         = 5 * time.Second
)

// runSettings: a service without a word from the administrator, one with a
// policy, and what happens when either starts again.
func runSettings(s *stage) error {
	if err := s.order.ours(); err != nil {
		return err
	}
	v := &visit{stage: s}
	if err := v.world(nat.PortRestricted, wikiByName); err != nil {
		return err
	}
	d := v.stile
	var before hostState
	return s.all(
		step{"the programs are built", s.built},
		step{"the portal answers", func() error { return d.installPortal(s) }},
		step{"the relay is registered", func() error { return d.startRelay(s) }},
		step{"the gateway is online", func() error { return d.startGateway(s) }},
		step{"the laptop's state is noted", func() (err error) { before, err = stateOf(v.net.laptop); return err }},
		step{"stiled runs, says that it is ready, and knows no portal", func() error {
			if err := v.startNotifying(); err != nil {
				return err
			}
			_, err := v.within(time.Now(), afterRestart, func() error { return v.session("signed-out", "portal-unknown") })
			return err
		}},
		step{"SIGHUP does not end it", func() error {
			if err := unix.Kill(d.client.pid, unix.SIGHUP); err != nil {
				return err
			}
			_, err := v.within(time.Now(), afterRestart, func() error { return v.logged("read again") })
			return errors.Join(err, v.session("signed-out", "portal-unknown"))
		}},
		step{"a user names the portal", func() error {
			return v.says("api_url: "+portalURL, "settings", "set", "api_url", portalURL)
		}},
		step{"what is not encrypted is refused", func() error {
			return v.refuses("not encrypted", "settings", "set", "api_url", "ws://"+portalName)
		}},
		step{"the user signs in with a browser", func() error { return v.signIn("sign_in_ms") }},
		step{"the wiki answers", func() error { _, err := v.first("http://" + wikiName + "/"); return err }},
		step{"the service starts again, and is as it was", func() error { return v.startsAgain("start_ms", (*role).stop) }},
		step{"and after kill -9", func() error { return v.startsAgain("start_after_kill_ms", (*role).kill) }},
		step{"the wiki answers", func() error { _, err := v.first("http://" + wikiName + "/"); return err }},
		step{"it starts while the portal is away, and keeps the sign-in", v.startsWithoutPortal},
		step{"and connects by itself when that is back", func() error {
			if err := d.startPortal(s); err != nil {
				return err
			}
			took, err := v.within(time.Now(), afterRestart, v.inAndResolving)
			v.metric("portal_back_ms", ms(took))
			return err
		}},
		step{"so do the others", func() error {
			_, err := v.within(time.Now(), 30*time.Second, func() error {
				return d.shows(func(p portalStatus) bool { return p.hasClient() && p.hasGateway() && p.hasRelay() })(s.ctx)
			})
			return err
		}},
		step{"SIGHUP begins the session anew, in the same process", v.hangUp},
		step{"a policy counts soon", func() error {
			if err := v.policy(0o644, `{"apiURL":"`+portalURL+`","connectOnStart":false,"authURL":"http://not-encrypted.example"}`); err != nil {
				return err
			}
			took, err := v.within(time.Now(), policyWithin, func() error { return v.managed("api_url", "connect_on_start") })
			v.metric("policy_ms", ms(took))
			return err
		}},
		step{"what it decides is locked", func() error {
			return errors.Join(
				v.refuses("administrator", "settings", "set", "api_url", "wss://elsewhere.example"),
				v.refuses("administrator", "settings", "set", "connect_on_start", "true"))
		}},
		step{"the service starts and does not connect", func() error {
			if err := d.client.stop(); err != nil {
				return err
			}
			if err := v.startPlain(); err != nil {
				return err
			}
			_, err := v.within(time.Now(), afterRestart, func() error { return v.session("signed-out", "") })
			return errors.Join(err, v.asBefore(before))
		}},
		step{"until the user says so", func() error {
			if err := v.says("Connect", "connect"); err != nil {
				return err
			}
			_, err := v.within(time.Now(), afterRestart, v.inAndResolving)
			return err
		}},
		step{"a policy that others can write does not count", func() error {
			if err := v.policy(0o666, `{"apiURL":"wss://evil.example"}`); err != nil {
				return err
			}
			_, err := v.within(time.Now(), policyWithin, func() error { return v.managed() })
			return errors.Join(err, v.inAndResolving())
		}},
		step{"all programs end when they are told to", v.end},
		step{"the laptop is as before", func() error {
			return errors.Join(v.net.laptop.Do(func() error { return os.Remove(policyFile) }), v.asBefore(before))
		}},
	)
}

// startPlain starts our service with nothing that an administrator says of the
// portal.
func (v *visit) startPlain() (err error) {
	v.stile.client, err = v.start(v.net.laptop, "stiled", []string{"STILE_TOKEN_PATH=" + clientToken}, daemon)
	return err
}

// startNotifying does so as systemd would, and waits to be told that the service
// is ready: users can sign in. One that waited for them first would be ended.
func (v *visit) startNotifying() (err error) {
	const path = "/run/notify"
	var told *net.UnixConn
	err = v.net.laptop.Do(func() (err error) {
		told, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		return err
	})
	if err != nil {
		return err
	}
	defer told.Close()
	v.stile.client, err = v.start(v.net.laptop, "stiled", []string{"STILE_TOKEN_PATH=" + clientToken, "NOTIFY_SOCKET=" + path}, daemon)
	if err != nil {
		return err
	}
	said := make([]byte, 100)
	told.SetReadDeadline(time.Now().Add(afterRestart))
	n, err := told.Read(said)
	if err == nil && string(said[:n]) != "READY=1" {
		err = fmt.Errorf("the service manager is told %q", said[:n])
	}
	return err
}

// startsAgain ends the service, starts it, and measures how long it takes until
// it is of use again.
func (v *visit) startsAgain(metric string, end func(*role) error) error {
	if err := end(v.stile.client); err != nil {
		return err
	}
	began := time.Now()
	if err := v.startPlain(); err != nil {
		return err
	}
	took, err := v.within(began, startsWithin, v.inAndResolving)
	v.metric(metric, ms(took))
	return err
}

// startsWithoutPortal ends portal and service, and starts the service.
func (v *visit) startsWithoutPortal() error {
	if err := errors.Join(v.stile.client.stop(), v.stile.control.stop(), v.startPlain()); err != nil {
		return err
	}
	if _, err := v.within(time.Now(), afterRestart, func() error { return v.session("connecting", "portal-unreachable") }); err != nil {
		return err
	}
	select { // long enough for several attempts
	case <-v.ctx.Done():
		return v.ctx.Err()
	case <-time.After(away):
	}
	return v.session("connecting", "portal-unreachable")
}

// inAndResolving wants a user who is connected, and names that stand for
// resources. After kill -9 the system asks a resolver that is not there, and
// waits: so the service is asked first.
func (v *visit) inAndResolving() error {
	if err := v.session("connected", ""); err != nil {
		return err
	}
	if err := v.stile.resolves(v.ctx); err != nil {
		return err
	}
	_, err := v.proxies(wikiName, "A")
	return err
}

// hangUp sends SIGHUP, which an administrator does when the network is another
// one and nothing noticed.
func (v *visit) hangUp() error {
	pid := v.stile.client.pid
	if err := unix.Kill(pid, unix.SIGHUP); err != nil {
		return err
	}
	_, err := v.within(time.Now(), afterRestart, func() error { return v.logged("asked to begin anew") })
	if err != nil {
		return err
	}
	if _, err = v.within(time.Now(), afterRestart, v.inAndResolving); err != nil {
		return err
	}
	if _, err := v.wiki("http://" + wikiName + "/"); err != nil {
		return err
	}
	if v.stile.client.pid != pid || unix.Kill(pid, 0) != nil {
		return errors.New("it is another process")
	}
	return nil
}

// logged wants words in the service's log.
func (v *visit) logged(words string) error {
	log, err := v.command("logs", "tail", "--json", "-n", "1000")
	if err == nil && !strings.Contains(log, words) {
		err = fmt.Errorf("the log does not tell of %q", words)
	}
	return err
}

// policy writes what the administrators of a fleet decided.
func (v *visit) policy(mode os.FileMode, text string) error {
	return v.net.laptop.WriteFile(policyFile, []byte(text), mode)
}

// managed wants these settings, besides those of the lab itself, to be locked.
func (v *visit) managed(want ...string) error {
	text, err := v.command("settings", "--json")
	if err != nil {
		return err
	}
	var s struct{ Managed []string }
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return fmt.Errorf("stile settings --json: %w: %.300s", err, text)
	}
	got := slices.DeleteFunc(s.Managed, func(name string) bool { return name == "log_filter" }) // STILE_LOG_LEVEL
	if !slices.Equal(got, want) {
		return fmt.Errorf("managed are %q; want %q", got, want)
	}
	return nil
}

// session wants the session to be in a phase, with a problem or without.
func (v *visit) session(phase, problem string) error {
	text, err := v.command("status", "--json")
	if err != nil {
		return err
	}
	var status struct {
		Session struct {
			Phase   string
			Problem struct{ Code string }
		}
	}
	if err := json.Unmarshal([]byte(text), &status); err != nil {
		return fmt.Errorf("stile status --json: %w: %.300s", err, text)
	}
	if got := status.Session; got.Phase != phase || got.Problem.Code != problem {
		return fmt.Errorf("the phase is %q with problem %q; want %q with %q", got.Phase, got.Problem.Code, phase, problem)
	}
	return nil
}

// says wants a command to print something.
func (v *visit) says(want string, args ...string) error {
	out, err := v.command(args...)
	if err == nil && !strings.Contains(out, want) {
		err = fmt.Errorf("stile %s says %q; want %q", strings.Join(args, " "), out, want)
	}
	return err
}

// refuses wants a command to fail, and to say why.
func (v *visit) refuses(want string, args ...string) error {
	out, err := v.command(args...)
	if err == nil {
		return fmt.Errorf("stile %s was obeyed: %s", strings.Join(args, " "), out)
	}
	if !strings.Contains(err.Error(), want) {
		return fmt.Errorf("stile %s fails otherwise: %w", strings.Join(args, " "), err)
	}
	return nil
}
