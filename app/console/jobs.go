package console

import (
	"context"
	"errors"
	"sync"
	"time"

	"stile/app/support"
)

// jobs is what takes long and goes on while the page is left: one export and
// one check of DNS at a time.
type jobs struct {
	once  sync.Once
	queue chan func(context.Context)

	mu     sync.Mutex // guards all below
	export exporting
	check  checking
}

// exporting is the latest export.
type exporting struct {
	running     bool
	done, total int64
	stop        context.CancelFunc // while it runs
	result      *support.Result    // nil: none ended well
	failed      error
}

// checking is the latest check of DNS.
type checking struct {
	running bool
	at      time.Time
	result  *support.Diagnosis
	failed  error
}

func (j *jobs) channel() chan func(context.Context) {
	j.once.Do(func() { j.queue = make(chan func(context.Context), 2) }) // one of each kind
	return j.queue
}

// run does what is asked for until ctx ends.
func (j *jobs) run(ctx context.Context, c *Console) {
	var g sync.WaitGroup
	defer g.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case work := <-j.channel():
			g.Go(func() { work(ctx); c.feed.wake() })
		}
	}
}

// progressEvery bounds how often pages are told how far an export has come.
const progressEvery = 200 * time.Millisecond

// beginExport reports whether an export begins; one may be under way.
func (c *Console) beginExport(full bool) bool {
	j := &c.jobs
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.export.running {
		return false
	}
	j.export = exporting{running: true}
	stopped := false
	j.export.stop = func() { stopped = true }
	j.channel() <- func(ctx context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		j.mu.Lock()
		if stopped {
			cancel()
		}
		j.export.stop = cancel
		j.mu.Unlock()
		var told time.Time
		r, err := c.desk.Export(ctx, full, func(done, total int64) {
			j.mu.Lock()
			j.export.done, j.export.total = done, total
			j.mu.Unlock()
			if now := time.Now(); now.Sub(told) >= progressEvery {
				told = now
				c.feed.wake()
			}
		})
		j.mu.Lock()
		defer j.mu.Unlock()
		j.export = exporting{failed: err}
		if err == nil {
			j.export.result = &r
		} else if ctx.Err() != nil {
			j.export.failed = errStopped
		}
	}
	return true
}

// errStopped means that the user did not want the export any more.
var errStopped = errors.New("stopped")

func (c *Console) stopExport() {
	c.jobs.mu.Lock()
	defer c.jobs.mu.Unlock()
	if stop := c.jobs.export.stop; stop != nil {
		stop()
	}
}

func (c *Console) beginCheck() {
	j := &c.jobs
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.check.running {
		return
	}
	j.check.running = true
	j.channel() <- func(ctx context.Context) {
		d, err := c.desk.Diagnose(ctx)
		j.mu.Lock()
		defer j.mu.Unlock()
		j.check = checking{at: c.now(), failed: err}
		if err == nil {
			j.check.result = &d
		}
	}
}
