// Package stamp tells what was built. The Makefile sets the variables with
// -ldflags -X; a plain "go build" leaves them as they are here.
package stamp

// Version is a semantic version without "v"; Commit is a short git hash.
var (
	Version = "0.1.0"
	Commit  = "unknown"

	// Releases is where the app looks for newer versions of itself,
	// "https://releases.example.com"; "": nowhere.
	Releases = ""
)

// String is what --version prints.
func String() string { return Version + " (" + Commit + ")" }
