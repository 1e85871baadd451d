package logs

import (
	"fmt"
	"log/slog"
	"strings"
)

// levelOff is above all that anybody logs.
const levelOff = slog.LevelError + 100

// LevelTrace is below debug.
const LevelTrace = slog.LevelDebug - 4

// A Filter says from which level on records are kept, for all targets and for
// some. It does not change.
type Filter struct {
	text    string
	general slog.Level
	targets []directive // the longest name first
	lowest  slog.Level
}

type directive struct {
	target string
	level  slog.Level
}

// ParseFilter reads a comma list of LEVEL or TARGET=LEVEL (spec
// desktop-client.md 20.4); levels are trace, debug, info, warn, error and off.
// A target is a package such as "tunnel/daemon" and all below it. "" is info.
func ParseFilter(text string) (*Filter, error) {
	f := &Filter{text: strings.TrimSpace(text), general: slog.LevelInfo}
	if f.text == "" {
		f.text = "info"
	}
	if len(f.text) > 1000 {
		return nil, fmt.Errorf("the log filter has %d bytes; it may have 1000", len(f.text))
	}
	for part := range strings.SplitSeq(f.text, ",") {
		target, name, named := strings.Cut(strings.TrimSpace(part), "=")
		if !named {
			target, name = "", target
		}
		level, ok := levels[strings.ToLower(strings.TrimSpace(name))]
		target = strings.Trim(strings.TrimSpace(target), "/")
		if !ok || named && target == "" {
			return nil, fmt.Errorf("%.80q is no log filter: write a level (trace, debug, info, warn, error, off), or TARGET=LEVEL, separated by commas", part)
		}
		if target == "" {
			f.general = level
			continue
		}
		f.insert(directive{target, level})
	}
	f.lowest = f.general
	for _, d := range f.targets {
		f.lowest = min(f.lowest, d.level)
	}
	return f, nil
}

var levels = map[string]slog.Level{
	"trace": LevelTrace, "debug": slog.LevelDebug, "info": slog.LevelInfo,
	"warn": slog.LevelWarn, "warning": slog.LevelWarn, "error": slog.LevelError, "off": levelOff,
}

// insert puts d before all shorter ones; of two for one target the later counts.
func (f *Filter) insert(d directive) {
	at := 0
	for at < len(f.targets) && len(f.targets[at].target) > len(d.target) {
		at++
	}
	f.targets = append(f.targets[:at], append([]directive{d}, f.targets[at:]...)...)
}

// String returns the filter as it was written.
func (f *Filter) String() string { return f.text }

// Keeps reports whether a record of a target and level is kept.
func (f *Filter) Keeps(target string, level slog.Level) bool {
	for _, d := range f.targets {
		if target == d.target || strings.HasPrefix(target, d.target+"/") {
			return level >= d.level
		}
	}
	return level >= f.general
}
