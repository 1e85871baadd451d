package desktop

import "fmt"

// List makes the desktop's list of programs have program, an absolute path, as
// Stile with a picture: the text of an SVG. It is for who installed it without a
// package, which brings an entry of its own: then this one goes. What users made
// of the entry stays, and calling it twice changes nothing.
func List(program, picture string) error {
	err := usable(program)
	if err == nil {
		err = list(program, picture)
	}
	if err != nil {
		return fmt.Errorf("be in the list of programs: %w", err)
	}
	return nil
}

// Unlist undoes List. It is no error if there is nothing to undo.
func Unlist() error {
	if err := unlist(); err != nil {
		return fmt.Errorf("leave the list of programs: %w", err)
	}
	return nil
}
