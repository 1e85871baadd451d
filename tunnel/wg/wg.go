// Package wg: placeholder until its owner writes it.
package wg

const HeaderLen, TagLen, Overhead = 16, 16, 32

type Keys struct{}
