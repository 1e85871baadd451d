package support

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"html/template"

	"stile/tunnel/ipc"
)

//go:embed summary.html
var page string

var pageTemplate = template.Must(template.New("summary").Parse(page))

// summary puts a page for people about what is in the archive. It is made of what
// the other files say, after redaction: what HTML makes of a secret could not be
// told from other text.
func (e *export) summary(s *ipc.State, d Diagnosis, m manifest) {
	var b bytes.Buffer
	data := map[string]any{"Made": e.fit(m), "DNS": e.fit(d), "State": nil}
	if s != nil {
		data["State"] = e.fit(s)
	}
	if err := pageTemplate.Execute(&b, data); err != nil {
		e.miss("summary.html", err)
		return
	}
	e.archive.begin("summary.html", e.Now())
	e.archive.put(b.Bytes())
	e.archive.end()
}

// fit returns what the JSON of v says after redaction.
func (e *export) fit(v any) (fit any) {
	text, err := json.Marshal(v)
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(e.redact(nil, text, jsons)))
		d.UseNumber()
		err = d.Decode(&fit)
	}
	if err != nil {
		panic(err) // what was JSON stays so
	}
	return fit
}
