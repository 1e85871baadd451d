//go:build !linux && !windows

package desktop

import (
	"context"
	"errors"
)

func copyText(context.Context, string) error { return errors.ErrUnsupported }
