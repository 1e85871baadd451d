//go:build !linux && !windows

package keystore

import "context"

func save(context.Context, string, string) error   { return ErrNoStore }
func load(context.Context, string) (string, error) { return "", ErrNoStore }
func remove(context.Context, string) error         { return ErrNoStore }
