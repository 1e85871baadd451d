package man

import (
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
)

type grammar struct {
	Door struct {
		Open struct {
			Width  int      `short:"w" default:"3" env:"WIDTH,BREADTH" help:"How far."`
			Keys   []string `required:"" placeholder:"FILE" help:".hidden \"ones\", too: C:\\keys."`
			Slowly bool     `xor:"pace" help:"Take time."`
			Fast   bool     `xor:"pace" help:"Take none."`
			Secret bool     `hidden:"" help:"Nobody knows."`
			Which  string   `arg:"" help:"Its name."`
		} `cmd:"" help:"Let somebody in."`
		Shut struct {
			Which string `arg:"" optional:"" help:"Its name."`
		} `cmd:"" help:"Keep them out."`
	} `cmd:"" help:"Doors."`
	Trap    struct{} `cmd:"" hidden:"" help:"Nobody knows."`
	Verbose bool     `help:"Say more."`
}

const text = ".SH NAME\nhouse \\- one\n.SH DESCRIPTION\nIt has doors.\n.SH FILES\n.SH SEE ALSO\n.BR tent (1)\n"

func house() *kong.Kong { return kong.Must(new(grammar), kong.Name("house")) }

func TestPage(t *testing.T) {
	got, err := Page(house().Model, "8", time.Date(2027, 1, 2, 0, 0, 0, 0, time.UTC), text)
	if err != nil {
		t.Fatal(err)
	}
	_, got, _ = strings.Cut(got, "\n") // the version changes
	want := `.SH NAME
house \- one
.SH SYNOPSIS
\fBhouse\fR \fIcommand\fR [\fIoption\fR ...]
.SH DESCRIPTION
It has doors.
.SH COMMANDS
.SS house door
Doors.
.SS house door open <which>
Let somebody in.
.TP
\fI<which>\fR
Its name.
.TP
\fB\-w\fR, \fB\-\-width\fR=\fIWIDTH\fR
How far.
The default is \fB3\fR.
Environment: \fBWIDTH\fR, \fBBREADTH\fR.
.TP
\fB\-\-keys\fR=\fIFILE,...\fR
\&.hidden \(dqones\(dq, too: C:\ekeys.
Required.
.TP
\fB\-\-slowly\fR
Take time.
Not together with \fB\-\-fast\fR.
.TP
\fB\-\-fast\fR
Take none.
Not together with \fB\-\-slowly\fR.
.SS house door shut [<which>]
Keep them out.
.TP
\fI<which>\fR
Its name.
.SH OPTIONS
All commands take these.
.TP
\fB\-h\fR, \fB\-\-help\fR
Show context\-sensitive help.
.TP
\fB\-\-verbose\fR
Say more.
.SH FILES
.SH SEE ALSO
.BR tent (1)
`
	if got != want {
		t.Errorf("got\n%s", got)
	}
	for _, bad := range []string{"", ".SH DESCRIPTION\nx\n.SH FILES\n", ".SH NAME\nx\n.SH FILES\nx\n", ".SH NAME\n.SH DESCRIPTION\nx\n"} {
		if _, err := Page(house().Model, "8", time.Time{}, bad); err == nil {
			t.Errorf("a page was made of %q", bad)
		}
	}
}

func TestMissing(t *testing.T) {
	k := house()
	page, err := Page(k.Model, "8", time.Time{}, text)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ without, want string }{
		{"", ""},
		{`\fB\-\-fast\fR` + "\n", "house door open --fast"},
		{`\fB\-\-keys\fR=`, "house door open --keys"},
		{`\-\-verbose`, "house --verbose house door --verbose house door open --verbose house door shut --verbose"},
		{".SS house door shut [<which>]", "door shut door shut"}, // in the help of the program, and of the command above it
	} {
		got := strings.Join(missing(k, k.Model.Node, nil, sections(strings.ReplaceAll(page, row.without, ""))), " ")
		if got != row.want {
			t.Errorf("without %q: %q", row.without, got)
		}
	}
}
