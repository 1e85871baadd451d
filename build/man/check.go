package man

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
)

// Check makes the page of the program that k describes from the text at path,
// such as stiled.8, and looks for all in it that --help tells of. If
// $STILE_MAN names a folder, the page is put there.
func Check(t *testing.T, k *kong.Kong, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	made, err := Page(k.Model, strings.TrimPrefix(filepath.Ext(path), "."), day(t), string(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range missing(k, k.Model.Node, nil, sections(made)) {
		t.Errorf("the page does not tell of %s", m)
	}
	lint(t, made)
	if dir := os.Getenv("STILE_MAN"); dir != "" && !t.Failed() {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), []byte(made), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// day is the date of the page: $SOURCE_DATE_EPOCH, so that the same source makes
// the same page.
func day(t *testing.T) time.Time {
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		return time.Now()
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		t.Fatal("SOURCE_DATE_EPOCH:", err)
	}
	return time.Unix(seconds, 0).UTC()
}

// sections are the parts of a page by their titles, as they are read.
func sections(page string) map[string]string {
	page = strings.NewReplacer(`\-`, "-", `\e`, `\`, `\(dq`, `"`, `\&`, "", `\fB`, "", `\fI`, "", `\fR`, "").Replace(page)
	parts := map[string]string{}
	for _, part := range regexp.MustCompile(`(?m)^\.S[HS] `).Split(page, -1) {
		title, rest, _ := strings.Cut(part, "\n")
		for title != "" {
			parts[title] = rest
			at := max(strings.LastIndex(title, " <"), strings.LastIndex(title, " ["))
			title = title[:max(at, 0)] // also without arguments
		}
	}
	return parts
}

var (
	optionLine  = regexp.MustCompile(`(?m)^  (?:-\w, |    )(--[\w-]+)`)
	commandLine = regexp.MustCompile(`(?m)^  ([a-z][\w-]*(?: [a-z][\w-]*)*)`)
)

// missing lists what is not on the page of what the program prints for --help,
// at the command n that words name and below it.
func missing(k *kong.Kong, n *kong.Node, words []string, parts map[string]string) (list []string) {
	help := helpFor(k, words)
	title := strings.Join(append([]string{k.Model.Name}, words...), " ")
	for _, found := range optionLine.FindAllStringSubmatch(help, -1) {
		if told := parts[title] + parts["OPTIONS"]; !strings.Contains(told, found[1]+"\n") && !strings.Contains(told, found[1]+"=") {
			list = append(list, title+" "+found[1])
		}
	}
	_, commands, _ := strings.Cut(help, "\nCommands:\n")
	for _, found := range commandLine.FindAllStringSubmatch(commands, -1) {
		if _, there := parts[k.Model.Name+" "+found[1]]; !there {
			list = append(list, found[1])
		}
	}
	for _, c := range n.Children {
		if !c.Hidden {
			list = append(list, missing(k, c, append(words[:len(words):len(words)], c.Name), parts)...)
		}
	}
	return list
}

func helpFor(k *kong.Kong, words []string) string {
	var out bytes.Buffer
	k.Stdout, k.Exit = &out, func(int) {}
	_, _ = k.Parse(append(words[:len(words):len(words)], "--help")) // goes on after the help, and fails
	return out.String()
}

// lint has programs look at the page that would show it, if there are any.
func lint(t *testing.T, page string) {
	t.Helper()
	for _, tool := range [][]string{{"mandoc", "-T", "lint", "-W", "warning"}, {"groff", "-man", "-Tutf8", "-ww", "-z"}} {
		if _, err := exec.LookPath(tool[0]); err != nil {
			t.Logf("%s is not installed, and did not look at the page", tool[0])
			continue
		}
		c := exec.Command(tool[0], tool[1:]...)
		c.Stdin = strings.NewReader(page)
		if out, err := c.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%v: %v\n%s", tool, err, out)
		}
	}
}
