package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"stile/tunnel/ipc"
)

// flightRecord is the name of the service's flight record among what it hands
// over for an export; all that comes before it is short.
const flightRecord = "service/flight/record.jsonl"

type logsFlight struct {
	Lines  int  `short:"n" default:"0" help:"How many of the latest; 0 for all."`
	Events bool `help:"Leave packets out."`
	JSON   bool `name:"json" help:"Print the lines as the service has them, for programs."`
}

// Validate tells what is wrong with the options.
func (c *logsFlight) Validate() error {
	if c.Lines < 0 {
		return fmt.Errorf("-n %d: say a number from 0", c.Lines)
	}
	return nil
}

// errEnough ends an answer of which nothing more is wanted.
var errEnough = errors.New("enough")

// Run prints the record.
func (c *logsFlight) Run(ctx context.Context, p *program) error {
	l, _, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	var lines []string
	began := false
	err = l.Ask(ctx, ipc.Collect{}, func(part ipc.Part) error {
		switch {
		case part.File == nil:
		case part.File.Name == flightRecord:
			began = true
			for line := range strings.Lines(string(part.File.Data)) {
				lines = c.add(lines, line)
			}
		case began:
			return errEnough
		}
		return nil
	})
	switch {
	case err != nil && err != errEnough:
		return err
	case !began:
		return advice("The service keeps no flight record. Update Stile.")
	}
	if c.Lines > 0 {
		lines = lines[max(0, len(lines)-c.Lines):]
	}
	for _, line := range lines {
		if !c.JSON {
			line = flown(line) + "\n"
		}
		if _, err := fmt.Fprint(p.out, line); err != nil {
			return err
		}
	}
	return nil
}

// add appends a line that is wanted.
func (c *logsFlight) add(lines []string, line string) []string {
	if c.Events && strings.Contains(line, `"message":"packet `) {
		return lines
	}
	if c.Lines > 0 && len(lines) >= 2*c.Lines { // the oldest need not be kept
		lines = append(lines[:0], lines[len(lines)-c.Lines:]...)
	}
	return append(lines, line)
}

// flown is a line of the flight record for people: packets are in columns, as
// those who look at packets know them.
func flown(line string) string {
	var f struct {
		Time                                   time.Time
		Message, Protocol, Source, Destination string
		Flags, Outcome, Connection, Remote     string
		Type, Code, Packets, Bytes             int
	}
	if json.Unmarshal([]byte(line), &f) != nil || !strings.HasPrefix(f.Message, "packet ") {
		return readable(line)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %-10s %s %s > %s", f.Time.Local().Format("2006-01-02 15:04:05.000"), f.Message, f.Protocol, f.Source, f.Destination)
	switch {
	case f.Flags != "":
		fmt.Fprintf(&b, " [%s]", f.Flags)
	case strings.HasPrefix(f.Protocol, "icmp"):
		fmt.Fprintf(&b, " type %d code %d", f.Type, f.Code)
	}
	if f.Packets != 1 {
		fmt.Fprintf(&b, ", %d packets", f.Packets)
	}
	fmt.Fprintf(&b, ", %d bytes", f.Bytes)
	if f.Remote != "" {
		fmt.Fprintf(&b, ", by %s %s", f.Connection, f.Remote)
	}
	if f.Outcome != "" {
		fmt.Fprintf(&b, ": %s", f.Outcome)
	}
	return clean(b.String())
}
