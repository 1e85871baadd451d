package ipc

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Sizes of frames in bytes. The body of a frame has at least two, "{}".
const (
	HeaderLen  = 4
	MaxMessage = 8 << 20  // body of what the service says (spec desktop-client.md 3.1)
	MaxRequest = 64 << 10 // body of what it reads: its memory is not the caller's
)

// ErrFrame means that the other end does not speak this protocol, or lost its
// place in it: close the connection.
var ErrFrame = errors.New("not a frame of ours")

// AppendFrame puts a header before body, at most limit bytes long.
func AppendFrame(dst, body []byte, limit int) ([]byte, error) {
	if len(body) < 2 || len(body) > limit {
		return dst, fmt.Errorf("%w: %d bytes", ErrFrame, len(body))
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(body)))
	return append(dst, body...), nil
}

// BodyLen returns how many bytes follow header, 2 to limit.
func BodyLen(header [HeaderLen]byte, limit int) (int, error) {
	n := binary.BigEndian.Uint32(header[:])
	if n < 2 || int64(n) > int64(limit) {
		return 0, fmt.Errorf("%w: %d bytes are announced", ErrFrame, n)
	}
	return int(n), nil
}
