package console

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestEveryModuleHasItsLicence(t *testing.T) {
	list := licences()
	for _, l := range list {
		if l.Kind == "" || len(l.Texts) == 0 || len(l.Texts[0]) < 200 {
			t.Errorf("%s: licence %q with %d texts", l.Module, l.Kind, len(l.Texts))
		}
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("whether there are others: there is no go command here to ask")
	}
	for _, system := range []string{"linux", "windows"} {
		c := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}{{end}}{{end}}", "stile/app/cmd/stile", "stile/tunnel/cmd/stiled")
		c.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
		out, err := c.Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range slices.Compact(slices.Sorted(strings.FieldsSeq(string(out)))) {
			if !slices.ContainsFunc(list, func(l licence) bool { return l.Module == path }) {
				t.Errorf("%s is built in, and its licence is missing: go run ./build/licences", path)
			}
		}
	}
}
