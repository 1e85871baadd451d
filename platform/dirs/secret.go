package dirs

// WriteSecret replaces path by data as WriteFile does. At no moment others can
// read it than administrators and the user of this program; where administrators
// have rights of their own, as on Windows, who acts as one leaves its own user
// out.
func WriteSecret(path string, data []byte) error { return writeSecret(path, data) }

// Protect makes the folder at path, and that of Config if it is above, unless
// they exist, and sees to it that nobody but those whom WriteSecret names can
// read or change what is in them, or put something there. What others own in it
// is an error: they could have written anything. Unix has the modes of what is
// made; there it does nothing.
func Protect(path string) error { return protect(path) }
