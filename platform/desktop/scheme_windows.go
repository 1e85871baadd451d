package desktop

import (
	"errors"
	"strings"
	"syscall"

	"golang.org/x/sys/windows/registry"
)

const (
	classes  = `Software\Classes\`
	runKey   = `Software\Microsoft\Windows\CurrentVersion\Run`
	approved = `Software\Microsoft\Windows\CurrentVersion\Explorer\StartupApproved\Run` // by the task manager
	runValue = "Stile"
)

func register(program string) error {
	for _, scheme := range Schemes {
		for _, v := range []struct{ key, name, value string }{
			{"", "", "URL:Stile"},
			{"", "URL Protocol", ""},
			{`\DefaultIcon`, "", quote(program) + ",0"},
			{`\shell\open\command`, "", schemeCommand(program)},
		} {
			if err := set(classes+scheme+v.key, v.name, v.value); err != nil {
				return err
			}
		}
	}
	return nil
}

func schemeCommand(program string) string { return quote(program) + " " + openCommand + ` "%1"` }

// quote is for paths, which have no quotes themselves.
func quote(path string) string { return `"` + path + `"` }

func unregister() error {
	for _, scheme := range Schemes {
		k, err := registry.OpenKey(registry.CURRENT_USER, classes+scheme, registry.QUERY_VALUE)
		if errors.Is(err, registry.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		name, _, _ := k.GetStringValue("")
		k.Close()
		if name != "URL:Stile" {
			continue // another program's
		}
		for _, below := range []string{`\shell\open\command`, `\shell\open`, `\shell`, `\DefaultIcon`, ""} {
			if err := registry.DeleteKey(registry.CURRENT_USER, classes+scheme+below); err != nil && !errors.Is(err, registry.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

func startsAtLogin(command []string) (Autostart, error) {
	k, err := registry.OpenKey(registry.CURRENT_USER, runKey, registry.QUERY_VALUE)
	if errors.Is(err, registry.ErrNotExist) {
		return Absent, nil
	}
	if err != nil {
		return Absent, err
	}
	defer k.Close()
	have, _, err := k.GetStringValue(runValue)
	if errors.Is(err, registry.ErrNotExist) {
		return Absent, nil
	}
	if err != nil {
		return Absent, err
	}
	if a, err := registry.OpenKey(registry.CURRENT_USER, approved, registry.QUERY_VALUE); err == nil {
		defer a.Close()
		// The lowest bit of the first byte is set when the user switched it off.
		if b, _, err := a.GetBinaryValue(runValue); err == nil && len(b) > 0 && b[0]&1 == 1 {
			return Off, nil
		}
	}
	if have != loginCommand(command) {
		return Outdated, nil
	}
	return On, nil
}

func startAtLogin(on bool, command []string) error {
	if a, err := registry.OpenKey(registry.CURRENT_USER, approved, registry.SET_VALUE); err == nil {
		defer a.Close()
		if err := a.DeleteValue(runValue); err != nil && !errors.Is(err, registry.ErrNotExist) {
			return err
		}
	}
	if on {
		return set(runKey, runValue, loginCommand(command))
	}
	k, err := registry.OpenKey(registry.CURRENT_USER, runKey, registry.SET_VALUE)
	if errors.Is(err, registry.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer k.Close()
	if err := k.DeleteValue(runValue); err != nil && !errors.Is(err, registry.ErrNotExist) {
		return err
	}
	return nil
}

// loginCommand quotes the program, whose path may have spaces, in any case.
func loginCommand(command []string) string {
	words := []string{quote(command[0])}
	for _, w := range command[1:] {
		words = append(words, syscall.EscapeArg(w))
	}
	return strings.Join(words, " ")
}

func set(key, name, value string) error {
	k, _, err := registry.CreateKey(registry.CURRENT_USER, key, registry.SET_VALUE)
	if err != nil {
		return err
	}
	defer k.Close()
	return k.SetStringValue(name, value)
}
