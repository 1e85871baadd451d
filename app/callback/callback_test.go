package callback

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// serve runs a listener until the test ends; taken are the answers it got.
func serve(t *testing.T, take func(string) Page) (l Listener, stop func()) {
	t.Helper()
	l, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var g sync.WaitGroup
	g.Go(func() {
		if err := l.Serve(ctx, take); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	stop = func() { cancel(); g.Wait() }
	t.Cleanup(stop)
	return l, stop
}

func get(t *testing.T, method, url, host string) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	r.Close = true
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body), answer.Header
}

func TestAnswersAreTakenWhole(t *testing.T) {
	var taken []string
	l, _ := serve(t, func(address string) Page {
		taken = append(taken, address)
		return Page{OK: len(taken) == 1, Title: "Hello <b>", Text: "Good & bye"}
	})
	want := l.URL() + "?state=a%20b&fragment=.x&actor_name=Z%C3%B6e+D"
	status, body, header := get(t, "GET", want, "")
	if status != 200 || !strings.Contains(body, "Hello &lt;b&gt;") || !strings.Contains(body, "Good &amp; bye") || !strings.Contains(body, `role="status"`) {
		t.Errorf("%d %s", status, body)
	}
	if len(taken) != 1 || taken[0] != want {
		t.Errorf("%q", taken)
	}
	for name, value := range map[string]string{"Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"} {
		if header.Get(name) != value {
			t.Errorf("%s: %s", name, header.Get(name))
		}
	}
	if !strings.HasPrefix(header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Error(header)
	}
	if status, body, _ := get(t, "GET", want, ""); status != 400 || !strings.Contains(body, `role="alert"`) {
		t.Errorf("again: %d %s", status, body)
	}
}

func TestWhatIsNoAnswerIsNotTaken(t *testing.T) {
	l, _ := serve(t, func(address string) Page {
		t.Errorf("%q was taken", address)
		return Page{}
	})
	base := "http://" + l.Addr().String()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, row := range []struct {
		method, url, host string
		want              int
	}{
		{"GET", base + "/", "", 404},
		{"GET", base + "/favicon.ico", "", 404},
		{"GET", base + path + "/x", "", 404},
		{"POST", l.URL(), "", 405},
		{"HEAD", l.URL(), "", 405},
		{"OPTIONS", l.URL(), "", 405},
		{"GET", l.URL() + "?state=x", "evil.example", 421},
		{"GET", l.URL() + "?state=x", "localhost:" + port, 421},
		{"GET", l.URL() + "?state=x", "127.0.0.1", 421},
	} {
		if got, _, _ := get(t, row.method, row.url, row.host); got != row.want {
			t.Errorf("%s %s from %s: %d", row.method, row.url, row.host, got)
		}
	}
}

func TestOnlyThisMachineIsListenedTo(t *testing.T) {
	l, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a := l.Addr().(*net.TCPAddr); a.IP.String() != "127.0.0.1" || a.Port == 0 {
		t.Error(a)
	}
}

// The page is read even if the answer ends the waiting, as it does.
func TestTheEndWaitsForThePage(t *testing.T) {
	answered := make(chan bool, 1)
	l, stop := serve(t, func(string) Page {
		answered <- true
		return Page{OK: true, Title: "Done", Text: strings.Repeat("x", 1<<20)}
	})
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s?x HTTP/1.1\r\nHost: %s\r\n\r\n", path, l.Addr())
	<-answered
	ended := make(chan bool)
	go func() { stop(); close(ended) }()
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(answer.Body); err != nil || len(body) < 1<<20 {
		t.Errorf("%d bytes, %v", len(body), err)
	}
	<-ended
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("it still listens")
	}
}

func TestNoiseDoesNotBlockTheAnswer(t *testing.T) {
	l, _ := serve(t, func(string) Page { return Page{OK: true} })
	for i := range connections {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		switch i % 3 { // the others say nothing
		case 0:
			io.WriteString(conn, strings.Repeat("\xff", 1000))
		case 1:
			io.WriteString(conn, "GET "+path+"?"+strings.Repeat("x", 2*maxHeader))
		}
	}
	began := time.Now()
	if got, _, _ := get(t, "GET", l.URL()+"?x", ""); got != 200 {
		t.Error(got)
	}
	if took := time.Since(began); took > 2*patience {
		t.Errorf("it took %v", took)
	}
}

func TestServeTellsWhyItCannot(t *testing.T) {
	l, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := l.Serve(t.Context(), nil); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
