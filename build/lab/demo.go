//go:build linux

package main

import (
	"fmt"
	"os"
)

// runDemo shows a private resource reached by name, step by step.
func runDemo(s *stage) error {
	s.out = os.Stdout
	fmt.Fprint(s.out, `A small internet on this machine: a laptop behind a home router, a wiki behind an
office router, between them a portal, a relay and a DNS server that has never
heard of `+wikiName+`.

`)
	v := &visit{stage: s}
	err := v.begin(defaultHome, wikiByName, site4)
	if err == nil {
		err = s.step("http://"+wikiName+"/ shows the wiki, by name, through the tunnel", func() error {
			_, err := v.first("http://" + wikiName + "/")
			return err
		})
	}
	if err != nil {
		fmt.Fprintln(s.out, "\nThe steps marked ok work; the one marked FAIL comes next.")
		return err
	}
	if s.order.Check {
		return nil
	}
	fmt.Fprintf(s.out, `
Look around, from another terminal:
  %[1]s shell laptop
and there:
  curl http://%[2]s/   the private wiki, through the tunnel
  curl http://%[3]s/     a public page, past the tunnel
  dig %[2]s            the addresses that stand for the wiki
  stile status                      who is signed in, and how the laptop is connected
  cat /etc/resolv.conf              who answers that
Or ask the portal who is online:
  %[1]s shell portal stile-server portal status
Logs: %[4]s
Ctrl-C ends it.
`, s.order.Self, wikiName, publicSite, s.order.Logs)
	<-s.ctx.Done()
	return nil
}
