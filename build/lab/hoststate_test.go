//go:build linux

package main

import (
	"strings"
	"testing"
)

func TestADifferenceOfHostsIsNamed(t *testing.T) {
	before := hostState{"routes": {"a", "b"}, "IPv4 rules": {"r"}}
	for _, row := range []struct {
		after hostState
		says  string // "": no difference
	}{
		{hostState{"routes": {"a", "b"}, "IPv4 rules": {"r"}}, ""},
		{hostState{"routes": {"a"}, "IPv4 rules": {"r"}}, "routes: gone: b"},
		{hostState{"routes": {"a", "b", "c"}, "IPv4 rules": {"r"}}, "routes: left over: c"},
		{hostState{"routes": {"a", "b"}}, "IPv4 rules: gone: r"},
		{hostState{"routes": {"a", "b", "b"}, "IPv4 rules": {"r"}}, "routes: left over: b"},
		{hostState{"routes": {"a", "b"}, "IPv4 rules": {"r"}, "firewall sets": {"s"}}, "firewall sets: left over: s"},
	} {
		err := row.after.same(before)
		if row.says == "" && err != nil || row.says != "" && (err == nil || !strings.Contains(err.Error(), row.says)) {
			t.Errorf("%v after %v: got %v; want %q", row.after, before, err, row.says)
		}
	}
}
