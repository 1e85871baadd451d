// Package wg carries the WireGuard sessions of one connection: handshake,
// timers, replay protection, sealing and opening of data messages.
//
// An [Identity] is a node's static key and what all its connections share. A
// [Session] is one connection's handshakes and timers; it is pure and its
// caller's lock guards it. [Keys] are the snapshot that a completed handshake
// yields. They leave the lock: Seal and Open may be called from any goroutine,
// for which the send counter is atomic. That counter is the only
// synchronisation in this package.
//
// The timers are those of spec connectivity.md 1.7, ICE mode.
package wg

import "encoding/binary"

const (
	// HeaderLen is the length of a data message's header: type (4 bytes),
	// receiver index (4), counter (8), little endian.
	HeaderLen = 16
	// TagLen is the length of the authenticator behind the ciphertext.
	TagLen = 16
	// Overhead is what sealing adds to a packet. Nothing is padded.
	Overhead = HeaderLen + TagLen
)

// Lengths of the handshake messages in bytes.
const (
	initiationLen = 148
	responseLen   = 92
	cookieLen     = 64
)

// A Kind is the type of a WireGuard message.
type Kind uint8

// The kinds have the numbers they have on the wire.
const (
	Invalid    Kind = 0
	Initiation Kind = 1
	Response   Kind = 2
	Cookie     Kind = 3
	Data       Kind = 4
)

// Classify tells what a datagram looks like by its type and length: handshake
// messages have one length each, data messages at least Overhead bytes. Type
// is a byte and three zero bytes. msg is borrowed.
func Classify(msg []byte) Kind {
	if len(msg) < Overhead {
		return Invalid
	}
	kind, n := binary.LittleEndian.Uint32(msg), len(msg)
	switch {
	case kind == uint32(Initiation) && n == initiationLen:
		return Initiation
	case kind == uint32(Response) && n == responseLen:
		return Response
	case kind == uint32(Cookie) && n == cookieLen:
		return Cookie
	case kind == uint32(Data):
		return Data
	}
	return Invalid
}

// Index returns the receiver index of a response, cookie reply or data
// message; its top 24 bits are the Config.Index of the connection. For other
// messages it is 0. msg is borrowed.
func Index(msg []byte) uint32 {
	switch Classify(msg) {
	case Response:
		return binary.LittleEndian.Uint32(msg[8:])
	case Cookie, Data:
		return binary.LittleEndian.Uint32(msg[4:])
	}
	return 0
}
