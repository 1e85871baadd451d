package cli

import (
	"archive/zip"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stile/app/support"
)

func TestLogsExport(t *testing.T) {
	f, _ := withLogs(t)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	dir := t.TempDir()
	r := f.run(t, "logs", "export", "--out", dir)
	r.want(t, done, "Nothing was sent anywhere.", "")
	path, _, _ := strings.Cut(r.out, "\n")
	if filepath.Dir(path) != dir || !strings.HasPrefix(filepath.Base(path), "stile_logs_") || !strings.Contains(r.out, "have others in their place") {
		t.Error(r.out)
	}
	z, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	z.Close()

	r = f.run(t, "logs", "export", "--json", "--full", "--yes", "--out", filepath.Join(dir, "x.zip"))
	var got support.Result
	if err := json.Unmarshal([]byte(r.out), &got); err != nil || r.code != done || got.Path != filepath.Join(dir, "x.zip") || got.Files == 0 || got.Missing == nil || got.Pseudonyms != 0 {
		t.Errorf("%v, %+v, %+v", err, r, got)
	}

	f.run(t, "logs", "export", "--full", "--out", dir).want(t, failed, "", "Add --yes")
	f.run(t, "logs", "export", "--out", filepath.Join(dir, "none", "x.zip")).want(t, failed, "", "no export was written: ")
	r = run{}.run(t, filepath.Join(t.TempDir(), "none"), "logs", "export", "--out", dir)
	r.want(t, done, "Missing in it:\n", "")
	if !strings.Contains(r.out, "the service is not running") {
		t.Error(r.out)
	}
}

// Progress is for what takes more than a moment.
func TestMeter(t *testing.T) {
	for took, want := range map[time.Duration]string{
		900 * time.Millisecond:  "",
		1100 * time.Millisecond: "\rAsking the service and the resolvers …\x1b[K\r\x1b[K",
		1300 * time.Millisecond: "\rAsking the service and the resolvers …\x1b[K\rCollecting logs: 25 % of 100.0 MB\x1b[K\r\x1b[K",
	} {
		synctest.Test(t, func(t *testing.T) {
			out := newBuffer()
			if _, err := newMeter(out).during(true, func(progress func(done, total int64)) (support.Result, error) {
				time.Sleep(min(took, 1100*time.Millisecond))
				progress(25_000_000, 100_000_000)
				time.Sleep(took - min(took, 1100*time.Millisecond))
				return support.Result{}, nil
			}); err != nil || out.String() != want {
				t.Errorf("after %v: %q, %v", took, out.String(), err)
			}
		})
	}
}

// Nobody is kept waiting by a question after Ctrl-C.
func TestQuestionsEndWithTheProgram(t *testing.T) {
	in, typing, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer typing.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (&program{in: in}).readLine(ctx); err == nil {
		t.Error("an answer that nobody gave")
	}
}
