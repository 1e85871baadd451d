package support

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stile/build/need"
)

// TestExportToASmallDisk runs itself in a mount namespace of its own, where the
// archive goes to a file system of 512 kB.
func TestExportToASmallDisk(t *testing.T) {
	if dir := os.Getenv("SUPPORT_TEST_SMALL_DISK"); dir != "" {
		exportToASmallDisk(t, dir)
		return
	}
	command := exec.Command("unshare", "-rm", "sh", "-c", `mount -t tmpfs -o size=512k none "$0" && exec "$1" -test.run=TestExportToASmallDisk -test.v`, t.TempDir(), os.Args[0])
	command.Env = append(os.Environ(), "SUPPORT_TEST_SMALL_DISK="+command.Args[5])
	out, err := command.CombinedOutput()
	if err != nil && !bytes.Contains(out, []byte("RUN")) {
		need.Otherwise(t, "no file system can be mounted here, so a full disk is not tried: %v, %s", err, out)
	}
	if err != nil {
		t.Errorf("%s", out)
	}
}

func exportToASmallDisk(t *testing.T, dir string) {
	rng, apps := rand.New(rand.NewPCG(1, 0)), t.TempDir()
	for i := range 5 {
		var log bytes.Buffer
		for log.Len() < 1<<20 {
			b := make([]byte, 8)
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			fmt.Fprintf(&log, "{\"message\":\"%s\"}\n", hex.EncodeToString(b)) // shrinks little
		}
		path := filepath.Join(apps, fmt.Sprintf("a%d.log", i))
		at := time.Now().Add(-time.Duration(i) * time.Hour)
		if err := errors.Join(os.WriteFile(path, log.Bytes(), 0o600), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	none := filepath.Join(t.TempDir(), "none")
	r, err := Export(t.Context(), Options{Socket: none, Out: dir, AppLogs: []string{apps}}, nil)
	if err != nil || !r.DiskFull || !strings.Contains(strings.Join(r.Missing, "\n"), "The disk is full (no space left on device)") {
		t.Fatalf("%+v, %v", r, err)
	}
	_, files := unzip(t, r.Path)
	for _, name := range []string{"manifest.json", "summary.html", "dns.json"} {
		if files[name] == "" {
			t.Errorf("%s is missing", name)
		}
	}
	if len(files) != r.Files || files["app/logs/a4.log"] != "" {
		t.Errorf("%d files, %+v", len(files), r)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
		t.Errorf("in the folder: %v", left)
	}
	// There is no room left at all, and what was written stays.
	r2, err := Export(t.Context(), Options{Socket: none, Out: filepath.Join(dir, "second.zip"), AppLogs: []string{apps}}, nil)
	if err == nil && !r2.DiskFull || err != nil && !errors.Is(err, ErrNothing) {
		t.Errorf("%+v, %v", r2, err)
	}
	unzip(t, r.Path)
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
