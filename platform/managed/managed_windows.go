package managed

import (
	"errors"
	"fmt"

	"golang.org/x/sys/windows/registry"
)

// Place is where the policy is; only administrators can write there.
const Place = `HKLM\Software\Policies\Stile`

const key = `Software\Policies\Stile`

func read() (map[string]any, error) {
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, key, registry.QUERY_VALUE|registry.WOW64_64KEY)
	if errors.Is(err, registry.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the policy does not count: %w", err)
	}
	defer k.Close()
	names, err := k.ReadValueNames(maxValues)
	if len(names) == 0 && err != nil { // io.EOF when there are none or fewer
		return nil, nil
	}
	values := map[string]any{}
	var unreadable error
	for _, name := range names {
		if value, err := readValue(k, name); err == nil {
			values[name] = value
		} else {
			unreadable = errors.Join(unreadable, fmt.Errorf("%q: %w", name, err))
		}
	}
	return values, unreadable
}

func readValue(k registry.Key, name string) (any, error) {
	_, kind, err := k.GetValue(name, nil)
	switch {
	case err != nil:
		return nil, err
	case kind == registry.SZ || kind == registry.EXPAND_SZ:
		text, _, err := k.GetStringValue(name)
		return text, err
	case kind == registry.DWORD || kind == registry.QWORD:
		n, _, err := k.GetIntegerValue(name)
		return n, err
	}
	return nil, errors.New("neither a text (REG_SZ) nor a number (REG_DWORD)")
}
