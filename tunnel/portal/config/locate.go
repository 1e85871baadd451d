package config

// Locate reads only where the socket and the store are, whatever else is wrong
// with the file: commands must reach a portal that still runs with its last
// good configuration. What it cannot read are the defaults.
func Locate(text []byte) (socket, dataDir string) {
	p := &parser{}
	socket, dataDir = DefaultSocket, DefaultDataDir
	if root, ok := p.document(text); ok {
		p.fields(root, field{"socket", p.pathInto(&socket)}, field{"data_dir", p.pathInto(&dataDir)})
	}
	return socket, dataDir
}
