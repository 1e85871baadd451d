//go:build linux

package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Web serves pages that say who served them and to whom, until ctx ends, and
// closes the listener. Below /bytes/N it serves N bytes.
func Web(ctx context.Context, l net.Listener, name string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(w, "This is %s, serving %s to %s.\n", name, r.Host, r.RemoteAddr)
	})
	mux.HandleFunc("/bytes/{n}", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(r.PathValue("n"), 10, 64)
		if err != nil || n < 0 {
			http.Error(w, "not a number of bytes: "+r.PathValue("n"), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", r.PathValue("n"))
		io.CopyN(w, zeros{}, n) // the reader may leave when it likes
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 30 * time.Second}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
