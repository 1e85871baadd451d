//go:build !linux

package owner

const dontWait = 0

func become(string) error                { return nil }
func as(_ string, do func() error) error { return do() }
func invoker() (uid, gid int, sudo bool) { return 0, 0, false }
