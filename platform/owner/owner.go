// Package owner lets a command that root starts work on the files of a service
// as the service's own user, so that it leaves nothing there which the service
// cannot open.
package owner

// Become makes this process act as the owner of path for the rest of its life,
// if it is root and another owns path. It does nothing otherwise.
func Become(path string) error { return become(path) }
