package cmdline

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

type program struct {
	Tunnel struct {
		Up struct {
			Port uint16 `env:"CMDLINE_TEST_PORT" help:"A number."`
			Site string `required:"" help:"A name."`
		} `cmd:"" help:"Bring it up."`
		Down struct{} `cmd:"" help:"Take it down."`
	} `cmd:"" help:"The tunnel."`
	Wrong wrong `cmd:"" help:"Cannot be right."`
}

type wrong struct{}

func (wrong) Validate() error { return errors.New("set SOMETHING to a value") }

// The test runs itself, because nobody comes back from Parse.
func TestMain(m *testing.M) {
	if os.Getenv("CMDLINE_TEST") != "" {
		c := Parse(&program{}, kong.Name("program"))
		switch c.Command() {
		case "tunnel up":
			Exit("program", errors.New("bring the tunnel up: nobody there; start the portal"))
		default:
			Exit("program", nil)
		}
	}
	os.Exit(m.Run())
}

func TestStatusAndMessage(t *testing.T) {
	for _, row := range []struct {
		args   string
		status int
		says   string // on standard error, the last line of it
		usage  bool   // the commands are listed before that
	}{
		{"tunnel down", 0, "", false},
		{"tunnel up --site=x", Failed, "program: bring the tunnel up: nobody there; start the portal", false},
		{"", Misused, `program: expected one of "tunnel", "wrong"; see program --help`, true},
		{"tunnel", Misused, `program: expected one of "up", "down"; see program tunnel --help`, true},
		{"tunnle", Misused, "program: unexpected argument tunnle, did you mean \"tunnel\"?; see program --help", false},
		{"tunnel up", Misused, "program: missing flags: --site=STRING; see program tunnel up --help", false},
		{"tunnel up --site=x --port=70000", Misused, `program: --port: expected a valid 16 bit uint but got "70000"; see program tunnel up --help`, false},
		{"tunnel up --sit=x", Misused, `program: unknown flag --sit, did you mean "--site"?; see program tunnel up --help`, false},
		{"wrong", Misused, "program: wrong: set SOMETHING to a value; see program wrong --help", false},
		{"--help", 0, "", false},
	} {
		status, out, stderr := run(t, row.args)
		lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
		if status != row.status || lines[len(lines)-1] != row.says {
			t.Errorf("%q: status %d, says %q; want %d, %q", row.args, status, lines[len(lines)-1], row.status, row.says)
		}
		if row.status != 0 && out != "" {
			t.Errorf("%q: standard output gets %q", row.args, out)
		}
		if usage := len(lines) > 1; usage != row.usage {
			t.Errorf("%q: usage is %v, want %v:\n%s", row.args, usage, row.usage, stderr)
		}
	}
}

func TestWrongEnvironment(t *testing.T) {
	t.Setenv("CMDLINE_TEST_PORT", "x")
	status, _, stderr := run(t, "tunnel up --site=x")
	if status != Misused || !strings.Contains(stderr, "CMDLINE_TEST_PORT") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("status %d: %s", status, stderr)
	}
}

func run(t *testing.T, args string) (status int, stdout, stderr string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, strings.Fields(args)...)
	c.Env = append(os.Environ(), "CMDLINE_TEST=1")
	var out, errs strings.Builder
	c.Stdout, c.Stderr = &out, &errs
	err = c.Run()
	if _, is := errors.AsType[*exec.ExitError](err); err != nil && !is {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), out.String(), errs.String()
}
