//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"stile/build/lab/host"
)

// endGrace is how long the second life may take to stop what runs in it.
const endGrace = 10 * time.Second

// errFailed ends the program with status 1 after a result was printed.
var errFailed = errors.New("failed")

type listCmd struct{}

func (listCmd) Run() error {
	for _, p := range programs {
		if p.kind != demonstration {
			fmt.Printf("%-10s %-16s %s\n", p.kind, p.name, p.about)
		}
	}
	return nil
}

type runCmd struct {
	Names []string `arg:"" name:"name" help:"Scenarios, see list."`
	JSON  bool     `help:"Print the result lines only."`
	Seed  uint64   `default:"1" help:"Decides all that is left to chance."`
	Short bool     `help:"Play the shorter form of scenarios that have two."`
	Keep  bool     `help:"Stay after the last scenario until Ctrl-C, to look around with shell."`
	external
}

func (r *runCmd) Run(c *cli) error {
	for _, name := range r.Names {
		if _, err := find(scenario, name); err != nil {
			return err
		}
	}
	var failed []string
	for i, name := range r.Names {
		keep := r.Keep && i == len(r.Names)-1
		if !c.play(order{Kind: scenario, Name: name, Seed: r.Seed, Keep: keep, Quiet: r.JSON, Short: r.Short, external: r.external}) {
			failed = append(failed, name)
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("%w: %v", errFailed, failed)
	}
	return nil
}

type benchCmd struct {
	Name string `arg:"" help:"The benchmark, see list."`
	JSON bool   `help:"Print the result line only."`
	Seed uint64 `default:"1" help:"Decides all that is left to chance."`
	external
}

func (b *benchCmd) Run(c *cli) error {
	if _, err := find(benchmark, b.Name); err != nil {
		return err
	}
	if !c.play(order{Kind: benchmark, Name: b.Name, Seed: b.Seed, Quiet: b.JSON, external: b.external}) {
		return errFailed
	}
	return nil
}

type demoCmd struct {
	Check bool   `help:"Fetch the private page, print \"demo: ok\" and exit."`
	Seed  uint64 `default:"1" help:"Decides all that is left to chance."`
}

func (d *demoCmd) Run(c *cli) error {
	r := c.enclose(order{Kind: demonstration, Name: "demo", Seed: d.Seed, Check: d.Check, Keep: !d.Check})
	if !r.OK {
		return errors.New("demo: " + r.Error)
	}
	if d.Check {
		fmt.Println("demo: ok")
	}
	return nil
}

// play runs one order and prints its result line.
func (c *cli) play(o order) (ok bool) {
	if !o.Quiet {
		fmt.Fprintf(os.Stderr, "%s %s\n", o.Kind, o.Name)
	}
	r := c.enclose(o)
	line, err := json.Marshal(r)
	if err != nil {
		panic(err) // a result holds nothing that JSON cannot
	}
	fmt.Println(string(line))
	return r.OK
}

// enclose runs an order in namespaces of its own and returns its result.
func (c *cli) enclose(o order) result {
	began := time.Now()
	r, err := c.carryOut(o)
	if r.Scenario == "" { // it ended before it could tell
		r = result{Scenario: o.Name, MS: time.Since(began).Milliseconds(), Metrics: map[string]float64{}}
	}
	if err != nil {
		r.OK, r.Error = false, errors.Join(textError(r.Error), err).Error()
	}
	return r
}

func (c *cli) carryOut(o order) (r result, err error) {
	if o.Logs, err = c.newRun(o.Name); err != nil {
		return r, err
	}
	if o.Bin, err = c.binaries(); err != nil {
		return r, err
	}
	if o.Self = os.Args[0]; c.LogDir != "" {
		o.Self += " --log-dir " + c.LogDir
	}
	text, err := json.Marshal(o)
	if err != nil {
		return r, err
	}
	answers, answer, err := os.Pipe()
	if err != nil {
		return r, err
	}
	defer answers.Close()
	// A second signal ends us at once, and with us the enclosure.
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	defer context.AfterFunc(ctx, stop)()

	p := host.Enclosed(ctx, endGrace, "inside", string(text))
	p.Stdout, p.Stderr, p.ExtraFiles = os.Stdout, os.Stderr, []*os.File{answer}
	told := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(answers) // ends when the second life does
		told <- b
	}()
	err = host.Enclose(p)
	answer.Close()
	if b := <-told; len(b) > 0 {
		if bad := json.Unmarshal(b, &r); bad != nil {
			return r, fmt.Errorf("the lab's result: %w", bad)
		}
		if !r.OK {
			err = nil // the result tells why
		}
	}
	return r, err
}

func textError(text string) error {
	if text == "" {
		return nil
	}
	return errors.New(text)
}

// binaries returns the folder that holds the products, as far as they are built.
func (c *cli) binaries() (string, error) {
	if c.BinDir != "" {
		return c.BinDir, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	for _, dir := range []string{filepath.Dir(self), filepath.Join(moduleRoot(), "build", "out")} {
		if _, err := os.Stat(filepath.Join(dir, "stiled")); err == nil {
			return dir, nil
		}
	}
	return filepath.Dir(self), nil
}

// logs returns the folder below which each run has one of its own.
func (c *cli) logs() string {
	if c.LogDir != "" {
		return c.LogDir
	}
	out := filepath.Join(moduleRoot(), "build", "out")
	dir := filepath.Join(out, "lab")
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return filepath.Join(out, "lab.runs") // this very program lies at the other path
	}
	return dir
}

// newRun makes the folder of a run.
func (c *cli) newRun(name string) (string, error) {
	parent := c.logs()
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", fmt.Errorf("make a folder for logs: %w (choose another with --log-dir)", err)
	}
	dir, err := os.MkdirTemp(parent, time.Now().Format("20060102-150405-")+name+"-")
	if err != nil {
		return "", fmt.Errorf("make a folder for logs: %w (choose another with --log-dir)", err)
	}
	return dir, os.Chmod(dir, 0o755)
}

// moduleRoot returns the source tree that this program was built in, or the one
// around the working directory, or that directory itself.
func moduleRoot() string {
	wd, err := os.Getwd()
	if err != nil {
		wd = "."
	}
	self, err := os.Executable()
	if err != nil {
		self = wd
	}
	for _, start := range []string{filepath.Dir(self), wd} {
		for dir := start; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
			if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
				return dir
			}
		}
	}
	return wd
}
