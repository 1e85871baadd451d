// Package wire: placeholder until its owner writes it.
package wire

type Key [32]byte
type Version uint8
type Message interface{ Event(v Version) string }
type ResourceType string
