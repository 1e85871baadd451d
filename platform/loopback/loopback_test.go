package loopback

import (
	"errors"
	"net"
	"testing"
)

func TestOurOwnConnectionsAreOurs(t *testing.T) {
	for network, address := range map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"} {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Logf("%s: %v", network, err)
			continue
		}
		defer l.Close()
		client, err := net.Dial(network, l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		switch mine, err := Mine(server); {
		case errors.Is(err, errors.ErrUnsupported):
			t.Logf("%s: this system does not tell", network)
		case !mine || err != nil:
			t.Errorf("%s: %v, %v", network, mine, err)
		}
	}
}
