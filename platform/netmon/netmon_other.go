//go:build !linux

package netmon

import (
	"context"
	"errors"
)

func watch(context.Context, string, func()) error { return errors.ErrUnsupported }
