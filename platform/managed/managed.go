// Package managed reads what the administrators of a fleet have set for all
// users of this machine (spec desktop-client.md 14): values by name, as they
// stand there. Whoever reads them decides what they mean.
package managed

// maxValues bounds what is read: many times what there is to set.
const maxValues = 64

// Read returns the values: texts (string), truth values (bool) and numbers
// (float64 or uint64). No policy is no error. An error says what does not count,
// and why; what is returned beside it does.
func Read() (map[string]any, error) { return read() }
