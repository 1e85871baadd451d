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
	err := v.begin(defaultHome, resource{"Wiki", wikiName}, resource{"Site", siteInside.v4.Masked().String()})
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
	self := s.order.Self
	fmt.Fprintf(s.out, `
Look around, from another terminal:
  %[1]s shell laptop           then, on the laptop:
      curl http://%[2]s/            the private wiki, through the tunnel
      curl http://%[3]s/            a public page, past it
      dig %[2]s                     the address that stands for the wiki
      cat /etc/resolv.conf
  %[1]s shell portal stile-server portal status
Logs: %[4]s
Ctrl-C ends it.
`, self, wikiName, publicSite, s.order.Logs)
	<-s.ctx.Done()
	return nil
}
