package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/term"

	"stile/app/support"
)

type logsExport struct {
	Out  string `placeholder:"FILE" help:"The zip file to write, or a folder for it (default: a new one in the present folder). One that is there is replaced."`
	Full bool   `help:"Keep the names of people, hosts and resources, and addresses. Asks before. Passwords, tokens and keys are removed in any case."`
	Yes  bool   `short:"y" help:"Do not ask: for scripts."`
	JSON bool   `name:"json" help:"Print what became of it as JSON, for programs."`
}

// Run makes the file. Nothing leaves this machine.
func (c *logsExport) Run(ctx context.Context, p *program) error {
	if c.Full && !c.Yes {
		if err := p.confirmFull(ctx); err != nil {
			return err
		}
	}
	shown := newMeter(p.err)
	r, err := shown.during(p.onTerminal(), func(progress func(done, total int64)) (support.Result, error) {
		return support.Export(ctx, support.Options{Socket: p.socket, Out: c.Out, Full: c.Full}, progress)
	})
	switch {
	case err != nil && ctx.Err() != nil:
		return err
	case errors.Is(err, support.ErrNothing):
		return advice(fmt.Sprintf("%s. Name another place with --out.", strings.TrimSuffix(err.Error(), ".")))
	case err != nil:
		return err
	case c.JSON:
		return writeJSON(p.out, r, "  ")
	}
	_, err = io.WriteString(p.out, exported(r, c.Full))
	return err
}

// confirmFull asks whether names may be in the file.
func (p *program) confirmFull(ctx context.Context) error {
	if !term.IsTerminal(int(p.in.Fd())) {
		return advice("--full keeps the names of people, hosts and resources, and nobody can be asked whether that is wanted. Add --yes, or leave --full out.")
	}
	fmt.Fprint(p.err, "The file will have the names of people, hosts and resources, and addresses, as they are.\n"+
		"Whoever you hand it to can read them. Passwords, tokens and keys are removed in any case.\nKeep the names? [y/N] ")
	answer, err := p.readLine(ctx)
	if err != nil {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return advice("Nothing was written. Without --full, names are replaced.")
}

// readLine reads what the user types, until Enter or the end of ctx.
func (p *program) readLine(ctx context.Context) (string, error) {
	got := make(chan string, 1)
	go func() { // cannot be interrupted; ends with us at the latest
		line, _ := bufio.NewReader(io.LimitReader(p.in, 1000)).ReadString('\n')
		got <- line
	}()
	select {
	case line := <-got:
		return line, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// exported says where the file is, what is in it and what is not.
func exported(r support.Result, full bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nThat is %s in %d files. ", clean(r.Path), size(r.Bytes), r.Files)
	if full {
		b.WriteString("Names and addresses are in it as they are; passwords, tokens and keys are not.\n")
	} else {
		b.WriteString("Names and addresses have others in their place; passwords, tokens and keys are removed.\n")
	}
	if len(r.Missing) > 0 {
		b.WriteString("Missing in it:\n")
		for _, m := range r.Missing {
			fmt.Fprintf(&b, "  %s\n", clean(m))
		}
	}
	b.WriteString("Nothing was sent anywhere. Look into it if you like (summary.html is for people), and hand it to whoever helps you.\n")
	return b.String()
}

// size is a number of bytes for people.
func size(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d bytes", n)
	case n < 1_000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}

// A meter shows on a terminal how far something is that takes its time.
type meter struct {
	out         io.Writer
	done, total atomic.Int64
	shown       bool
}

const (
	patience  = time.Second // before anything is shown
	meterTick = 200 * time.Millisecond
)

func newMeter(out io.Writer) *meter { return &meter{out: out} }

// during runs do and shows how far it is, if anybody looks.
func (m *meter) during(looks bool, do func(progress func(done, total int64)) (support.Result, error)) (support.Result, error) {
	if !looks {
		return do(nil)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var g sync.WaitGroup
	g.Go(func() { m.show(ctx) })
	r, err := do(func(done, total int64) { m.done.Store(done); m.total.Store(total) })
	cancel()
	g.Wait()
	return r, err
}

// show draws one line anew now and then until ctx ends, and removes it.
func (m *meter) show(ctx context.Context) {
	wait := time.NewTimer(patience)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			if m.shown {
				fmt.Fprint(m.out, "\r\x1b[K")
			}
			return
		case <-wait.C:
		}
		m.shown = true
		if done, total := m.done.Load(), m.total.Load(); total > 0 {
			fmt.Fprintf(m.out, "\rCollecting logs: %d %% of %s\x1b[K", min(100*done/total, 100), size(total))
		} else {
			fmt.Fprint(m.out, "\rAsking the service and the resolvers …\x1b[K")
		}
		wait.Reset(meterTick)
	}
}
