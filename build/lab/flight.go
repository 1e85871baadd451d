//go:build linux

package main

import (
	"archive/zip"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"stile/build/lab/nat"
	"stile/platform/dirs"
)

// runFlightRecord: what the client did can be told afterwards, without what was
// said; and when its site is lost, that is kept.
func runFlightRecord(s *stage) error {
	if err := s.order.ours(); err != nil {
		return err
	}
	v := &visit{stage: s}
	if err := v.begin(nat.PortRestricted, wikiByName); err != nil {
		return err
	}
	return s.all(
		step{"the wiki answers", func() error { _, err := v.first("http://" + wikiName + "/"); return err }},
		step{"echoes come back", func() error {
			for _, kind := range []string{"A", "AAAA"} {
				addrs, err := v.proxies(wikiName, kind)
				if err != nil {
					return err
				}
				if err := errors.Join(v.echoes("tcp", addrs[0]), v.echoes("udp", addrs[0])); err != nil {
					return err
				}
			}
			return nil
		}},
		step{"the record tells all of it, and not what was said", func() error {
			_, err := v.within(time.Now(), 5*time.Second, func() error { // what is counted comes every second
				text, err := v.command("logs", "flight", "--json")
				if err != nil {
					return err
				}
				return complete(text)
			})
			return err
		}},
		step{"the gateway dies", func() error { return v.stile.gate.kill() }},
		step{"the record is kept beside the logs", func() error {
			took, err := v.within(time.Now(), neverHangs, func() error {
				v.wiki("http://"+wikiName+"/", "--timeout", "400ms") // somebody wants it
				return v.keptRecord("site-lost")
			})
			v.metric("kept_ms", ms(took))
			return err
		}},
		step{"an export has both", v.exportsRecords},
		step{"all programs end when they are told to", v.end},
	)
}

// complete checks a flight record of a client that has used the wiki.
func complete(text string) error {
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		var l struct{ Time, Severity, Message, Protocol, Flags, Outcome string }
		if err := json.Unmarshal([]byte(line), &l); err != nil || l.Time == "" || l.Severity == "" || l.Message == "" {
			return fmt.Errorf("%q is no line of a log: %v", line, err)
		}
		seen[strings.TrimSpace(l.Message+" "+l.Protocol+" "+l.Flags+" "+l.Outcome)] = true
	}
	var missing []string
	for _, want := range []string{
		"portal joined", "told everything by the portal", "relay allocated", "configuration done", "name answered", "authorization asked", "authorization granted",
		"path chosen", "connection established", "name confirmed", "counted", "end of the flight record",
		"packet out udp  answered", "packet out tcp S held", "packet out tcp S", "packet in tcp SA", "packet in udp",
	} {
		if !seen[want] {
			missing = append(missing, want)
		}
	}
	if missing != nil {
		return fmt.Errorf("of %d lines the record lacks %q", strings.Count(text, "\n")+1, missing)
	}
	for _, said := range []string{"there and back", "GET /", "This is wiki"} {
		if strings.Contains(text, said) {
			return fmt.Errorf("the record has %q of a packet", said)
		}
	}
	return nil
}

// keptRecord checks that a record was kept for a reason, for those who may read
// logs.
func (v *visit) keptRecord(reason string) error {
	pattern := filepath.Join(dirs.Logs, "flight-"+reason+"-*.jsonl")
	out, err := v.net.laptop.Output(v.net.laptop.Command(v.ctx, "sh", "-c", "stat -c %a "+pattern+" && tail -n 1 "+pattern))
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if text := string(out); !strings.HasPrefix(text, "640\n") || !strings.Contains(text, `"reason":"`+reason+`"`) {
		return fmt.Errorf("the kept record: %s", text)
	}
	return nil
}

func (v *visit) exportsRecords() error {
	path := filepath.Join(v.order.Logs, "export.zip")
	if _, err := v.command("logs", "export", "--out", path); err != nil {
		return err
	}
	z, err := zip.OpenReader(path)
	if err != nil {
		return err
	}
	defer z.Close()
	var found []string
	for _, f := range z.File {
		if _, name, ok := strings.Cut(f.Name, "/service/flight/"); ok {
			found = append(found, name)
		}
	}
	if len(found) != 2 || found[0] != "record.jsonl" || !strings.HasPrefix(found[1], "flight-site-lost-") {
		return fmt.Errorf("the export has %q", found)
	}
	return nil
}
