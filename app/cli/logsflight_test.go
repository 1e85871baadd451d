package cli

import (
	"context"
	"strings"
	"testing"
	"time"

	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
)

// Inform hands over parts, if there are any.
func (f *fake) Inform(_ context.Context, _ link.Caller, _ ipc.Command, put func(ipc.Part) error) error {
	f.mu.Lock()
	parts := f.parts
	f.mu.Unlock()
	if parts == nil {
		return ipc.Problemf(ipc.UnknownCommand, "The service does not know this question. Update Stile.")
	}
	for _, p := range parts {
		if err := put(ipc.Part{File: &p}); err != nil {
			return err
		}
	}
	return nil
}

func TestLogsFlight(t *testing.T) {
	f := serve(t, ipc.Connected)
	f.run(t, "logs", "flight").want(t, failed, "", "Update Stile.")
	f.parts = []ipc.FilePart{{Name: "service/settings.json", Data: []byte("{}\n")}}
	f.run(t, "logs", "flight").want(t, failed, "", "keeps no flight record")

	event := logged(noon, "INFO", "path chosen", `,"connection":"00abcd"`)
	packets := logged(noon, "DEBUG", "packet out", `,"protocol":"tcp","source":"100.64.0.1:5","destination":"10.0.0.5:443","flags":"SA","packets":3,"bytes":120,"connection":"00abcd","remote":"192.0.2.1:52625"`) +
		logged(noon, "DEBUG", "packet in", `,"protocol":"icmp","source":"10.0.0.5","destination":"100.64.0.1","type":3,"code":1,"packets":1,"bytes":56,"outcome":"dropped: \u001bX"`)
	f.parts = append(f.parts, ipc.FilePart{Name: flightRecord, Data: []byte(event)}, ipc.FilePart{Name: flightRecord, Data: []byte(packets)})
	for range 1000 { // which nobody waits for
		f.parts = append(f.parts, ipc.FilePart{Name: "service/logs/a.log", Data: make([]byte, ipc.MaxFilePart)})
	}
	at := noon.Local().Format("2006-01-02 15:04:05.000")
	began := time.Now()
	r := f.run(t, "logs", "flight")
	want := at + " INFO    tunnel/daemon: path chosen connection=00abcd\n" +
		at + " packet out tcp 100.64.0.1:5 > 10.0.0.5:443 [SA], 3 packets, 120 bytes, by 00abcd 192.0.2.1:52625\n" +
		at + " packet in  icmp 10.0.0.5 > 100.64.0.1 type 3 code 1, 56 bytes: dropped: \ufffdX\n"
	if r.out != want || r.code != done {
		t.Errorf("%+v\nwant %s", r, want)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if r := f.run(t, "logs", "flight", "--json"); r.out != event+packets {
		t.Errorf("%s", r.out)
	}
	if r := f.run(t, "logs", "flight", "--events"); !strings.Contains(r.out, "path chosen") || strings.Contains(r.out, "packet") {
		t.Errorf("%s", r.out)
	}
	if r := f.run(t, "logs", "flight", "-n", "1"); strings.Count(r.out, "\n") != 1 || !strings.Contains(r.out, "icmp") {
		t.Errorf("%s", r.out)
	}
	f.run(t, "logs", "flight", "--lines=-1").want(t, misuse, "", "-n -1")
}

func FuzzFlown(f *testing.F) {
	f.Add(`{"time":"2026-01-02T03:04:05.000000006Z","message":"packet out","protocol":"icmp","type":1,"bytes":2}`)
	f.Add(`{"message":"packet \u001b","flags":"\u0007","remote":"x"}`)
	f.Add(`{"message":"counted"}`)
	f.Fuzz(func(t *testing.T, line string) {
		if got := flown(line); strings.ContainsAny(got, "\x1b\n\r\x07") {
			t.Errorf("%q is shown as %q", line, got)
		}
	})
}
