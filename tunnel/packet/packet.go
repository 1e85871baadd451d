// Package packet: placeholder until its owner writes it.
package packet

type Packet struct{ b []byte }
