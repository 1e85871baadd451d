//go:build linux

package serve

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

func TestACacheOfNames(t *testing.T) {
	ask := func(version, kind int32, key string) []byte {
		var b bytes.Buffer
		binary.Write(&b, binary.NativeEndian, []int32{version, kind, int32(len(key))})
		b.WriteString(key)
		return nscdReply(&b, "wiki.corp.example", netip.MustParseAddr("10.9.0.10"))
	}
	reply := ask(2, 14, "wiki.corp.example\x00")
	var want bytes.Buffer
	binary.Write(&want, binary.NativeEndian, []int32{2, 1, 1, 4, 0, 0})
	want.Write([]byte{10, 9, 0, 10, 2})
	if !bytes.Equal(reply, want.Bytes()) {
		t.Errorf("%x, want %x", reply, want.Bytes())
	}
	for _, other := range [][]byte{ask(2, 14, "www.example.net\x00"), ask(2, 13, "hosts\x00"), ask(1, 14, "wiki.corp.example\x00"), ask(2, 14, ""), nscdReply(bytes.NewReader([]byte{2}), "", netip.Addr{})} {
		if other != nil {
			t.Errorf("%x", other)
		}
	}
}
