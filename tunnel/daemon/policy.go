package daemon

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"stile/platform/logs"
	"stile/tunnel/ipc"
)

// parsePolicy reads the values of a managed policy (spec desktop-client.md 14):
// texts, and numbers or truth values for switches. unusable says, for people,
// what is ignored.
func parsePolicy(values map[string]any) (p choice, unusable []string) {
	texts := map[string]struct {
		into  *string
		check func(string) error
	}{
		"apiURL":      {&p.APIURL, ipc.CheckAPIURL},
		"authURL":     {&p.AuthURL, ipc.CheckAuthURL},
		"logFilter":   {&p.LogFilter, func(s string) error { _, err := logs.ParseFilter(s); return err }},
		"accountSlug": {&p.AccountSlug, checkSlug},
		"supportURL":  {&p.SupportURL, ipc.CheckSupportURL},
	}
	switches := map[string]**bool{
		"hideAdminPortalMenuItem": &p.HideAdminPortal,
		"connectOnStart":          &p.ConnectOnStart,
		"checkForUpdates":         &p.CheckForUpdates,
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		var err error
		if text, is := texts[key]; is {
			var value string
			if value, err = policyText(values[key]); err == nil && value != "" {
				err = text.check(value)
			}
			if err == nil {
				*text.into = value
			}
		} else if into, is := switches[key]; is {
			*into, err = policySwitch(values[key])
		} else {
			err = errors.New("no policy has this name")
		}
		if err != nil {
			unusable = append(unusable, fmt.Sprintf("%.60q: %v", key, err))
		}
	}
	return p, unusable
}

func checkSlug(s string) error {
	if !ipc.IsSlug(s) {
		return errors.New("not a name of an account")
	}
	return nil
}

func policyText(v any) (string, error) {
	s, is := v.(string)
	if !is && v != nil {
		return "", errors.New("not a text")
	}
	return s, nil
}

// policySwitch reads true, false, 1 and 0; nothing else, so that a mistake does
// not switch anything.
func policySwitch(v any) (*bool, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case bool:
		return &v, nil
	case float64: // of JSON
		if v == 0 || v == 1 {
			return new(v == 1), nil
		}
	case uint64: // of a registry
		if v <= 1 {
			return new(v == 1), nil
		}
	}
	return nil, errors.New("neither true nor false")
}
