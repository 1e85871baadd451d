package link

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"stile/tunnel/ipc"
)

// FuzzConnection says anything to a service, in two pieces, and leaves. Whatever
// it was, the service is done with it, and obeys the next program.
func FuzzConnection(f *testing.F) {
	good, _ := ipc.AppendRequest(nil, ipc.Request{ID: 1, Command: ipc.SetInternet{On: true}})
	question, _ := ipc.AppendRequest(nil, ipc.Request{ID: 2, Command: ipc.Inspect{Host: "a"}})
	other, _ := ipc.AppendFrame(nil, []byte(`{"protocol":9,"id":1,"command":"x"}`), ipc.MaxRequest)
	f.Add(good, good)
	f.Add(append(append(good, question...), other...), []byte{0, 0, 0, 2, '{'})
	f.Add([]byte("GET / HTTP/1.1\r\n"), []byte("\r\n"))
	f.Add([]byte{0, 1, 0, 1}, []byte{255})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		synctest.Test(t, func(t *testing.T) {
			s := newFake()
			program, end := virtual(t, s)
			go io.Copy(io.Discard, program)
			for _, piece := range [][]byte{first, second} {
				program.SetWriteDeadline(time.Now().Add(time.Minute))
				program.Write(piece)
				time.Sleep(time.Second)
			}
			end()
			if n := len(s.server.watching()); n != 0 {
				t.Fatalf("%d connections are left", n)
			}
			next, end := virtual(t, s)
			defer end()
			c := newClient(next)
			if err := c.greet(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := c.Do(t.Context(), ipc.SetInternet{On: true}); err != nil {
				t.Fatal(err)
			}
		})
	})
}
