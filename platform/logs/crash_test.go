package logs

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestCrash runs itself as a program that crashes, and opens its log again.
func TestCrash(t *testing.T) {
	if dir := os.Getenv("LOGS_TEST_CRASH"); dir != "" {
		l, err := Open(Config{Dir: dir, Base: "program"})
		if err == nil {
			err = l.KeepCrashes()
		}
		if err != nil {
			t.Fatal(err)
		}
		go panic("as it happens")
		select {}
	}
	dir := t.TempDir()
	command := exec.Command(os.Args[0], "-test.run=TestCrash$")
	command.Env = append(os.Environ(), "LOGS_TEST_CRASH="+dir)
	if out, err := command.CombinedOutput(); err == nil {
		t.Fatalf("it did not crash: %s", out)
	}
	for _, want := range []int{1, 0} { // the second time there is nothing to tell
		l := open(t, Config{Dir: dir})
		if err := l.KeepCrashes(); err != nil {
			t.Fatal(err)
		}
		l.Flush()
		text, err := os.ReadFile(l.file.path)
		if err != nil || strings.Count(string(text), `"severity":"ERROR","message":"the program crashed: panic: as it happens"`) != want || strings.Contains(string(text), `[running]`) != (want == 1) {
			t.Errorf("%s, %v", text, err)
		}
		l.Close()
	}
}
