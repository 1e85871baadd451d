package config

import "bytes"

// Locate reads only where the socket and the store are, whatever else is wrong
// with the file: commands must reach a portal that still runs with its last
// good configuration. What it cannot read are the defaults.
func Locate(text []byte) (socket, dataDir string) {
	p := &parser{}
	socket, dataDir = DefaultSocket, DefaultDataDir
	root, ok := p.document(text)
	if !ok { // not YAML at all: the two lines alone may be
		root, ok = p.document(onlyLines(text, "socket:", "data_dir:"))
	}
	if ok {
		p.fields(root, field{"socket", p.pathInto(&socket)}, field{"data_dir", p.pathInto(&dataDir)})
	}
	return socket, dataDir
}

// onlyLines returns the lines of text that begin with one of prefixes.
func onlyLines(text []byte, prefixes ...string) []byte {
	var kept []byte
	for line := range bytes.Lines(text) {
		for _, prefix := range prefixes {
			if bytes.HasPrefix(line, []byte(prefix)) {
				kept = append(kept, line...)
			}
		}
	}
	return kept
}
