package console

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"stile/app/menu"
	"stile/app/support"
	"stile/app/why/cause"
)

// A diagnosticsPage is for whoever helps.
type diagnosticsPage struct {
	*frame
	Export exportPart

	DNS       facts
	Checking  bool
	CheckedAt string
	Checks    []check

	Events []happenedLine

	LogFilter   string
	Levels      []option
	Text        string
	Lines       []line
	LogProblems []string
	Counters    []pair
}

type exportPart struct {
	Running, Known bool // Known: the total is
	Done           string
	Percent        int
	Failed         string
	Path, Result   string
	Missing        []string
}

type check struct{ Dot, What, Text string }

type happenedLine struct{ At, Dot, Text string }

type option struct {
	Value, Title, Lang string
	Selected           bool
}

func (p *diagnosticsPage) fill(bool) {
	p.fillExport()
	p.fillDNS()
	p.c.past.mu.Lock()
	for _, e := range slices.Backward(p.c.past.events) {
		p.Events = append(p.Events, happenedLine{e.at.In(p.now.Location()).Format("15:04:05"), e.dot(), e.text(p.W, p.T)})
	}
	p.c.past.mu.Unlock()
	p.LogFilter = p.T.LogFilterUnknown
	if s := p.view.State; s != nil {
		if s.Logs.Filter != "" {
			p.LogFilter = p.T.LogFilterIs(menu.Plain(s.Logs.Filter))
		}
		for _, n := range s.Counters {
			p.Counters = append(p.Counters, pair{menu.Plain(n.Name), strconv.FormatUint(n.Value, 10)})
		}
	}
	p.Text = p.q.text
	level := p.q.level
	if level == "" {
		level = "debug"
	}
	for _, o := range []option{{Value: "debug", Title: p.T.LevelDebug}, {Value: "info", Title: p.T.LevelInfo}, {Value: "warning", Title: p.T.LevelWarning}, {Value: "error", Title: p.T.LevelError}} {
		o.Selected = o.Value == level
		p.Levels = append(p.Levels, o)
	}
	p.logs = p.q.read(p.c.desk.LogDirs(), p.T.LogUnreadable, p.now.Location(), p.logs)
	p.Lines, p.LogProblems = p.logs.lines, p.logs.problems
}

func (p *diagnosticsPage) fillExport() {
	j := &p.c.jobs
	j.mu.Lock()
	defer j.mu.Unlock()
	x, e := &j.export, &p.Export
	switch {
	case x.running:
		e.Running = true
		e.Done = bytesText(p.T, uint64(max(0, x.done)))
		if e.Known = x.total > 0; e.Known {
			e.Percent = int(min(100, max(0, x.done)*100/x.total))
			e.Done = p.T.ExportProgress(e.Done, bytesText(p.T, uint64(x.total)))
		}
	case errors.Is(x.failed, errStopped):
		e.Failed = p.T.ExportCanceled
	case x.failed != nil:
		e.Failed = p.T.ExportFailed(strings.TrimPrefix(x.failed.Error(), support.ErrNothing.Error()+": "))
	case x.result != nil:
		e.Path, e.Missing = x.result.Path, x.result.Say(p.W)
		e.Result = p.T.ExportResult(bytesText(p.T, uint64(max(0, x.result.Bytes))), strconv.Itoa(x.result.Files), strconv.Itoa(x.result.Pseudonyms))
	}
}

func (p *diagnosticsPage) fillDNS() {
	if s := p.view.State; s != nil {
		p.DNS = p.dns(s)
	}
	j := &p.c.jobs
	j.mu.Lock()
	defer j.mu.Unlock()
	p.Checking = j.check.running
	d := j.check.result
	if j.check.failed != nil {
		p.CheckedAt = j.check.at.In(p.now.Location()).Format("15:04:05")
		p.Checks = []check{{Dot: "red", What: j.check.failed.Error()}}
	}
	if d == nil {
		return
	}
	p.CheckedAt = j.check.at.In(p.now.Location()).Format("15:04:05")
	first := check{"red", p.T.AsksOthers, list(d.System)}
	if d.AsksUs {
		first.Dot, first.What = "green", p.T.AsksUs
	}
	p.Checks = append(p.Checks, first)
	for _, k := range d.Checks {
		c := check{Dot: "green", What: menu.Plain(p.checked(&k))}
		took := tripText(p.T, time.Duration(k.TookMS*float64(time.Millisecond)))
		if k.OK {
			c.Text = took
			if len(k.Addrs) > 0 {
				c.Text = list(k.Addrs) + " · " + took
			}
		} else {
			c.Dot, c.Text = "red", menu.Plain(p.failed(&k))
		}
		p.Checks = append(p.Checks, c)
	}
}

// checked says what was looked for.
func (f *frame) checked(k *support.Check) string {
	switch k.Kind {
	case support.Sentinel:
		return f.T.CheckSentinel(k.Of)
	case support.PortalName:
		if k.Of == "" {
			return f.T.CheckPortal
		}
		return f.T.CheckPortalAt(k.Of)
	case support.ResourceName:
		return f.T.CheckResource
	}
	return capital(k.What)
}

// failed says why it was not found.
func (f *frame) failed(k *support.Check) string {
	switch k.Failure {
	case support.NoSuchName:
		return f.T.NoSuchName
	case support.NoAnswer:
		return f.T.NoAnswer
	case support.Impostor:
		return f.T.Impostor
	}
	return k.Text
}

// capital makes the beginning of a sentence of s.
func capital(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if n == 0 {
		return s
	}
	return string(unicode.ToUpper(r)) + s[n:]
}

// A whyPage tells why something cannot be reached.
type whyPage struct {
	*frame
	Target  string
	Pattern string // what to do about a target that stands for many
	Failed  string
	Report  *report
}

type report struct {
	Dot, Cause, Next, Code string
	Steps                  []step
}

type step struct{ Dot, Name, Result, Detail string }

// whyTime bounds how long a look may take.
const whyTime = 10 * time.Second

func (p *whyPage) fill(whole bool) {
	p.Target = p.q.why
	p.Live = "" // what was found does not change by itself
	if !whole || p.Target == "" {
		return
	}
	if strings.ContainsAny(p.Target, "*?/") {
		p.Pattern = p.T.WhyPattern(p.Target)
		p.Target = ""
		return
	}
	r, err := p.c.why(p.ctx, p.Target)
	if err != nil {
		p.Failed = err.Error()
		return
	}
	r = r.In(p.W)
	p.Report = &report{Dot: "red", Cause: r.Cause, Next: r.Next, Code: string(r.Code)}
	if r.Reachable {
		p.Report.Dot = "green"
	}
	for _, s := range r.Steps {
		n := step{"grey", p.linkText(s.Name), p.T.StepOpen, s.Detail}
		switch s.Result {
		case cause.OK:
			n.Dot, n.Result = "green", p.T.StepOK
		case cause.Failing:
			n.Dot, n.Result = "red", p.T.StepFailed
		}
		p.Report.Steps = append(p.Report.Steps, n)
	}
}

// linkText is what a link of the chain is called.
func (p *whyPage) linkText(name string) string {
	text := map[string]string{
		cause.ServiceLink: p.T.StepService, cause.NetworkLink: p.T.StepNetwork, cause.SessionLink: p.T.StepSession, cause.NameLink: p.T.StepName,
		cause.ResourceLink: p.T.StepResource, cause.RouteLink: p.T.StepRoute, cause.AccessLink: p.T.StepAccess,
		cause.GatewayLink: p.T.StepGateway, cause.ResolveLink: p.T.StepResolve, cause.AnswerLink: p.T.StepAnswer,
	}[name]
	if text == "" {
		return name
	}
	return text
}
