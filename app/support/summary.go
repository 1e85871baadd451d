package support

import (
	"bytes"
	_ "embed"
	"html/template"
	"time"

	"stile/build/stamp"
	"stile/platform/machine"
	"stile/tunnel/ipc"
)

//go:embed summary.html
var page string

var pageTemplate = template.Must(template.New("summary").Parse(page))

// summary is a page for people about what is in the archive.
func summary(s *ipc.State, d Diagnosis, down error, now time.Time) []byte {
	var b bytes.Buffer
	data := struct {
		Made, Program string
		OS            machine.OS
		State         *ipc.State
		Down          string
		DNS           Diagnosis
	}{Made: now.Format(time.RFC1123Z), Program: stamp.String(), OS: machine.Describe(), State: s, DNS: d}
	if down != nil {
		data.Down = explain(down)
	}
	if err := pageTemplate.Execute(&b, data); err != nil {
		return []byte("<!doctype html><p>The summary could not be made: " + template.HTMLEscapeString(err.Error()) + "\n")
	}
	return b.Bytes()
}
